"""The checkpoints that lie in a run's folder, and checkpoints.json beside them, with the metrics of each."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from lightning_modules.weights.sharded_checkpoint import CONTENT_NAME
from pipeline.checkpoints.storage import Storage

FOLDER = "checkpoints"
RECORD = f"{FOLDER}/checkpoints.json"
_NAME = re.compile(r"step-(\d+)\.ckpt")
_SHARDED_NAME = re.compile(r"step-(\d+)\.sharded")


@dataclass(frozen=True)
class CheckpointRecord:
    """Record of a checkpoint of a run.

    Args:
        step: number of optimizer steps done.
        bytes: size of the file when it was written, in bytes.
        metrics: metrics measured with these weights, and `epoch` and `step`.
        time: time of writing, in seconds since 1970.
        sharded: whether it is a folder with the shards of all ranks.
    """

    step: int
    bytes: int
    metrics: dict[str, Any] = field(default_factory=dict)
    time: float = 0.0
    sharded: bool = False

    @property
    def file(self) -> str:
        """Name of the file, or of the folder of a sharded one, in the folder of checkpoints."""
        return f"step-{self.step:08d}.{'sharded' if self.sharded else 'ckpt'}"

    @property
    def name(self) -> str:
        """Path of the file or folder relative to the run's folder."""
        return f"{FOLDER}/{self.file}"


def is_sharded_name(name: str) -> bool:
    """Whether a folder is called as a sharded checkpoint is."""
    return _SHARDED_NAME.fullmatch(name) is not None


def list_checkpoints(storage: Storage) -> list[CheckpointRecord]:
    """Lists the checkpoints of a run, the newest last; with the records of those that checkpoints.json names.

    Raises:
        OSError: the storage cannot be reached.
    """
    recorded = {each.file: each for each in read_records(storage)}
    found = []
    for file in storage.files(FOLDER):
        if match := _NAME.fullmatch(file.name):
            found.append(recorded.get(file.name) or CheckpointRecord(int(match[1]), file.bytes, {}, file.modified))
    for name in storage.folders(FOLDER):
        if match := _SHARDED_NAME.fullmatch(name):
            contents = [file for file in storage.files(f"{FOLDER}/{name}") if file.name == CONTENT_NAME]
            found += [
                recorded.get(name) or CheckpointRecord(int(match[1]), file.bytes, {}, file.modified, sharded=True)
                for file in contents
            ]
    return sorted(found, key=lambda each: each.step)


def read_records(storage: Storage) -> list[CheckpointRecord]:
    """Reads the checkpoints in checkpoints.json."""
    names = [each.name for each in fields(CheckpointRecord)]
    return [
        CheckpointRecord(**{name: each[name] for name in names if name in each})
        for each in read_content(storage)["checkpoints"]
    ]


def read_content(storage: Storage) -> dict[str, Any]:
    """Reads checkpoints.json, which is optional; without checkpoints if it is missing or damaged."""
    try:
        record = json.loads(storage.read(RECORD) or b"{}")
        return {"checkpoints": [], **record}
    except ValueError:
        return {"checkpoints": []}


def write_records(storage: Storage, saved: Sequence[CheckpointRecord], monitor: str, mode: str) -> None:
    """Writes checkpoints.json.

    Args:
        storage: storage of the run's folder.
        saved: the checkpoints.
        monitor: name of the metric by which they are ranked.
        mode: `min` or `max`.
    """
    lines = [{"file": each.file, **asdict(each)} for each in saved]
    content = json.dumps({"monitor": monitor, "monitor_mode": mode, "checkpoints": lines}, indent=1) + "\n"
    storage.write(RECORD, lambda path: path.write_text(content, encoding="utf-8"))
