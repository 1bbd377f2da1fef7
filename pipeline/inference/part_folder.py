"""`PartFolder`: the finished parts of an unfinished export, in OUT.parts beside the file OUT.

A part is an Arrow file with the rows of some videos, written atomically; videos that failed are listed in JSON files
beside them. settings.json holds all settings that the rows
depend on; parts of different settings are never mixed.
"""

import contextlib
import glob
import json
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from datamodules.storage.atomic_write import PARTIAL_SUFFIX, remove_partial_files, write_atomically
from datamodules.storage.file_lock import FileLock, Timeout, file_lock
from pipeline.cli.terminal import print_text
from pipeline.inference.part_rows import ROW, forget_parts, rows_of_part

Failure = tuple[int, str, str]  # row number in the dataset's index, reason and description

_SETTINGS = "settings.json"
_ROWS, _FAILURES = "part-*.arrow", "failures-*.json"
_VISIBILITY_TIMEOUT_S = 30.0  # for a folder created by another node to appear on a network file system


class PartFolder:
    """Folder of the parts of an unfinished export, locked by one run at a time.

    Args:
        out: the file that the export writes.
        settings: all settings that the rows depend on, as plain data.
        overwrite: whether to remove parts of other settings when the folder is opened.
        remedy: advice for the message about parts of other settings, besides finishing that export.

    Attributes:
        path: the path of the folder.

    Raises:
        ValueError: the folder holds parts of other settings, and `overwrite` is false.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], overwrite: bool, remedy: str) -> None:
        self.path = parts_folder(out)
        self._out, self._overwrite, self._remedy = out, overwrite, remedy
        self._settings = dict(settings)
        self._lock: FileLock | None = None
        self._created: list[Path] = []
        if not overwrite:
            refuse_other_settings(out, settings, remedy)

    def open(self) -> None:
        """Creates and locks the folder, on one rank, and removes partial files of killed runs.

        Raises:
            ValueError: another export writes there, or the folder holds parts of other settings.
        """
        if self._overwrite and _differing_settings(self.path, self._settings):
            remove_parts(self._out)
        if self._overwrite or not next(self.path.glob(_ROWS), None):
            for failures in self.path.glob(_FAILURES):
                failures.unlink()  # to be tried again, or of other settings
        self._created = [folder for folder in (self.path, *self.path.absolute().parents) if not folder.is_dir()]
        self.path.mkdir(parents=True, exist_ok=True)
        lock = file_lock(self.path / "lock", wait=False)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(f"out={str(self._out)!r}: another export writes there; wait for its end") from None
        self._lock = lock
        remove_partial_files(self.path)
        for leftover in self._out.parent.glob(f".{glob.escape(self._out.name)}.*{PARTIAL_SUFFIX}"):
            leftover.unlink()  # of a run that was killed while merging the parts
        refuse_other_settings(self._out, self._settings, self._remedy)
        with write_atomically(self.path / _SETTINGS) as temporary:
            temporary.write_text(json.dumps(self._settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def wait_until_visible(self, rank: int) -> None:
        """Waits for the folder that rank 0 created; raises FileNotFoundError if it does not appear on this node."""
        deadline = time.monotonic() + _VISIBILITY_TIMEOUT_S
        while not self.path.is_dir():
            if time.monotonic() > deadline:
                raise FileNotFoundError(
                    f"out={str(self.path.parent)!r}: rank {rank}, on {socket.gethostname()}, does not see what rank 0 "
                    "made there; give a folder of a file system that all nodes share"
                )
            time.sleep(0.2)

    def parts(self, further_names: Iterable[str] = ()) -> list[Path]:
        """Lists the finished parts; damaged ones are reported and left out.

        Args:
            further_names: names of further parts, which a network file system may not list yet.
        """
        found = []
        for path in sorted({*self.path.glob(_ROWS), *(self.path / name for name in further_names)}):
            try:
                rows_of_part(path)
                found.append(path)
            except (pa.ArrowInvalid, OSError):
                print_text(f"{path}: damaged, its videos are exported again", sys.stderr)
        return found

    def save(self, table: pa.Table, prefix: str = "part") -> str:
        """Writes rows as a part and returns the name of the file.

        Args:
            table: at least one row, with the column `ROW`.
            prefix: prefix of the name; the next run finds only parts with the prefix `part`.
        """
        path = self.path / f"{prefix}-{table.column(ROW)[0].as_py():010d}-{uuid.uuid4().hex[:8]}.arrow"
        with write_atomically(path) as temporary, pa.ipc.new_file(temporary, table.schema) as writer:
            writer.write_table(table)
        return path.name

    def save_failures(self, failures: Sequence[Failure]) -> None:
        """Writes videos that failed and have no rows, at least one, so that the next run does not try them again."""
        path = self.path / f"failures-{failures[0][0]:010d}-{uuid.uuid4().hex[:8]}.json"
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps(list(failures)) + "\n", encoding="utf-8")

    def failures(self) -> list[Failure]:
        """The videos that earlier runs saved by `save_failures`; damaged files are left out."""
        found: list[Failure] = []
        for path in sorted(self.path.glob(_FAILURES)):
            with contextlib.suppress(OSError, ValueError):
                found += [(int(row), str(reason), str(detail)) for row, reason, detail in json.loads(path.read_text())]
        return found

    def close(self) -> None:
        """Releases the lock. A folder created here that has no part is removed, with the parents created for it."""
        if self._lock is None:
            return
        if self._created and self.path.is_dir() and not next(self.path.glob(_ROWS), None):
            shutil.rmtree(self.path)
            with contextlib.suppress(OSError):  # not empty
                for folder in self._created[1:]:
                    folder.rmdir()
        self._lock.release()
        self._lock = None


def parts_folder(out: Path) -> Path:
    """Returns the folder for the parts of an export to `out`."""
    return out.with_name(f"{out.name}.parts")


def remove_parts(out: Path) -> None:
    """Removes all parts of an export to `out`, if any."""
    forget_parts()
    shutil.rmtree(parts_folder(out), ignore_errors=True)


def refuse_other_settings(out: Path, settings: Mapping[str, Any], remedy: str) -> None:
    """Raises ValueError if there are parts of an export to `out` with other settings.

    Args:
        out: the file that the export writes.
        settings: all settings that the rows depend on, as plain data.
        remedy: advice for the message, besides finishing that export.
    """
    if differing := _differing_settings(parts_folder(out), settings):
        raise ValueError(
            f"{parts_folder(out)}: holds an unfinished export with another {', '.join(differing)}; finish that one, "
            f"choose another name, or {remedy}"
        )


def _differing_settings(folder: Path, settings: Mapping[str, Any]) -> list[str]:
    """Names of the settings in which existing parts differ; empty for a folder without parts."""
    try:
        found = dict(json.loads((folder / _SETTINGS).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except ValueError:
        return [_SETTINGS]  # damaged
    if not next(folder.glob(_ROWS), None):
        return []
    plain = json.loads(json.dumps(dict(settings)))
    return sorted(name for name in plain.keys() | found.keys() if plain.get(name) != found.get(name))
