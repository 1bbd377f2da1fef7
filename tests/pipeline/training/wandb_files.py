"""What wandb has written offline: its files are logs of records, in blocks of 32 KiB, each record in parts."""

import json
import struct

from wandb.proto import wandb_internal_pb2

_BLOCK = 32768
_LAST_PARTS = (1, 4)


def records(path):
    """The records of a run-*.wandb file."""
    data, place, gathered = path.read_bytes(), 7, b""
    while place < len(data):
        left = _BLOCK - place % _BLOCK
        if left < 7:
            place += left
            continue
        _, length, part = struct.unpack("<IHB", data[place : place + 7])
        gathered += data[place + 7 : place + 7 + length]
        place += 7 + length
        if part in _LAST_PARTS:
            record = wandb_internal_pb2.Record()
            record.ParseFromString(gathered)
            yield record
            gathered = b""


def run_of(path):
    """The record that says which run it is."""
    return next(record.run for record in records(path) if record.WhichOneof("record_type") == "run")


def configuration_of(path):
    """All that was logged as configuration: {name: value}."""
    found = {}
    for record in records(path):
        config = {"run": record.run.config, "config": record.config}.get(record.WhichOneof("record_type"))
        for item in config.update if config is not None else ():
            found[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    return found


def history_of(path):
    """{step as Lightning counts, from 0: {name: value}}."""
    rows = {}
    for record in records(path):
        if record.WhichOneof("record_type") == "history":
            row = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            rows.setdefault(row["trainer/global_step"], {}).update(row)
    return rows
