"""Seek tables of files, read once for all their segments: the latest in memory, all in a folder that processes share.

Segments of one file are spread over shards, and so over processes and machines. A file is identified by its path, size
and time of modification.
"""

import hashlib
import json
import os
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.storage.atomic_write import write_atomically
from datamodules.video.frame_table import FrameTable
from datamodules.video.seek_table import SeekTable, read_seek_table

_VERSION = 3  # of the stored form; other versions are read again
_TABLES_IN_MEMORY = 8  # of an hour each: 5 MB
_latest: OrderedDict[str, SeekTable] = OrderedDict()


def cached_seek_table(source: str, folder: Path | None, report_step: Callable[[], None]) -> SeekTable:
    """The seek table of a file: from memory, from the folder, or read from the file's packets and kept in both.

    Args:
        source: path of the file.
        folder: folder of stored tables, which need not exist; None: none are stored.
        report_step: called after each packet read and each frame decoded.

    Raises:
        DecodeError: the file cannot be opened or read.
    """
    name = _name(source)
    table = _latest.get(name) or (None if folder is None else _load(folder / name))
    if table is None:
        table = read_seek_table(source, "exact", report_step)
        _store(table, name, folder)
    _remember(name, table)
    return table


def replace_seek_table(source: str, folder: Path | None, report_step: Callable[[], None]) -> SeekTable:
    """Replaces the table of a file whose key frames mislead by one made by decoding it from its beginning.

    Raises:
        DecodeError: the file does not decode; the table stays, for segments elsewhere in the file.
    """
    name = _name(source)
    table = read_seek_table(source, "nothing", report_step)
    _store(table, name, folder)
    _remember(name, table)
    return table


def _name(source: str) -> str:
    facts = os.stat(source)  # noqa: PTH116
    identity = f"{os.path.abspath(source)}\0{facts.st_size}\0{facts.st_mtime_ns}"  # noqa: PTH100
    return f"{hashlib.sha256(os.fsencode(identity)).hexdigest()[:32]}.npz"


def _remember(name: str, table: SeekTable) -> None:
    _latest[name] = table
    _latest.move_to_end(name)
    if len(_latest) > _TABLES_IN_MEMORY:
        _latest.popitem(last=False)


def _store(table: SeekTable, name: str, folder: Path | None) -> None:
    """Stores a table; without one, on a full disk or in a folder that cannot be written, others read the file again."""
    if folder is None:
        return
    frames = table.frames._asdict()
    ticks = np.array(frames.pop("ticks"), np.int64)
    plain = {key: str(value) if isinstance(value, Fraction) else value for key, value in frames.items()}
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(folder / name) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                frames=json.dumps({"version": _VERSION, "address": table.address, **plain}),
                ticks=_differences(ticks),  # of an hour: some kB, with checksums 400
                timestamps=_differences(table.timestamps),
                keys=_differences(table.keys),
                checksums=table.checksums,
            )


def _load(path: Path) -> SeekTable | None:
    """A stored table; None where there is none, or it is damaged."""
    try:
        with np.load(path) as stored:
            frames: dict[str, Any] = json.loads(str(stored["frames"]))
            ticks, timestamps, keys = (np.cumsum(stored[name], 0) for name in ("ticks", "timestamps", "keys"))
            checksums = stored["checksums"]
        if frames.pop("version") != _VERSION:
            return None
        address = frames.pop("address")
        fractions = {name: Fraction(frames[name]) for name in ("time_base", "rate", "duration")}
        table = FrameTable(**{**frames, **fractions, "ticks": ticks.tolist()})
        return SeekTable(table, timestamps, keys, checksums, address)
    except Exception:  # numpy, zipfile and zlib raise a dozen types on damaged files
        return None


def _differences(values: np.ndarray) -> np.ndarray:
    return np.diff(values, axis=0, prepend=np.zeros_like(values[:1]))
