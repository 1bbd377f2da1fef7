"""`PartFolder`: the finished parts of an export that is under way, in OUT.parts beside the file OUT.

A part is an Arrow file of the rows of some videos, written aside and renamed: whole or not there. settings.json says
what all that the rows depend on; parts of other settings are never mixed with them.
"""

import contextlib
import glob
import json
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from datamodules.storage.atomic_write import PARTIAL_SUFFIX, remove_partial_files, write_atomically
from datamodules.storage.file_lock import FileLock, Timeout, file_lock
from pipeline.cli.terminal import say
from pipeline.inference.part_rows import ROW, forget_parts, rows_of_part

_SETTINGS = "settings.json"
_PATIENCE_S = 30.0  # that a folder which another node has just made may take to appear on a network file system


class PartFolder:
    """Parts of an unfinished export, of one run at a time.

    Args:
        out: the file that the export is to write.
        settings: plain data, all that the rows depend on.
        overwrite: remove parts of other settings when the folder is opened.
        remedy: what a person can do about parts of other settings, besides finishing that export.

    Attributes:
        path: of the folder.

    Raises:
        ValueError: there are parts of other settings, and not `overwrite`.
    """

    def __init__(self, out: Path, settings: Mapping[str, Any], overwrite: bool, remedy: str) -> None:
        self.path = parts_folder(out)
        self._out, self._overwrite, self._remedy = out, overwrite, remedy
        self._settings = dict(settings)
        self._lock: FileLock | None = None
        self._made: list[Path] = []
        if not overwrite:
            refuse_other_settings(out, settings, remedy)

    def open(self) -> None:
        """Makes the folder and locks it, on one rank; removes what killed runs left half-written.

        Raises:
            ValueError: another export writes there, or has left parts of other settings.
        """
        if self._overwrite and _other_settings(self.path, self._settings):
            remove_parts(self._out)
        self._made = [folder for folder in (self.path, *self.path.absolute().parents) if not folder.is_dir()]
        self.path.mkdir(parents=True, exist_ok=True)
        lock = file_lock(self.path / "lock", wait=False)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(f"out={str(self._out)!r}: another export writes there; wait for its end") from None
        self._lock = lock
        remove_partial_files(self.path)
        for leftover in self._out.parent.glob(f".{glob.escape(self._out.name)}.*{PARTIAL_SUFFIX}"):
            leftover.unlink()  # of a run that was killed while it put the parts together
        refuse_other_settings(self._out, self._settings, self._remedy)
        with write_atomically(self.path / _SETTINGS) as temporary:
            temporary.write_text(json.dumps(self._settings, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    def wait_until_seen(self, rank: int) -> None:
        """FileNotFoundError where the folder that rank 0 made does not appear on this rank's node."""
        deadline = time.monotonic() + _PATIENCE_S
        while not self.path.is_dir():
            if time.monotonic() > deadline:
                raise FileNotFoundError(
                    f"out={str(self.path.parent)!r}: rank {rank}, on {socket.gethostname()}, does not see what rank 0 "
                    "made there; give a folder of a file system that all nodes share"
                )
            time.sleep(0.2)

    def parts(self, known: Iterable[str] = ()) -> list[Path]:
        """The finished parts; one that cannot be read, which no run of ours leaves, counts as not there.

        Args:
            known: names of parts that a network file system may not list yet.
        """
        found = []
        for path in sorted({*self.path.glob("part-*.arrow"), *(self.path / name for name in known)}):
            try:
                rows_of_part(path)
                found.append(path)
            except (pa.ArrowInvalid, OSError):
                say(f"{path}: damaged, its videos are exported again", sys.stderr)
        return found

    def save(self, table: pa.Table, prefix: str = "part") -> str:
        """Writes rows, with the column `ROW`, as a part; gives its name.

        Args:
            table: of at least one row.
            prefix: of the name; with another than `part`, the next run does not find the part.
        """
        path = self.path / f"{prefix}-{table.column(ROW)[0].as_py():010d}-{uuid.uuid4().hex[:8]}.arrow"
        with write_atomically(path) as temporary, pa.ipc.new_file(temporary, table.schema) as writer:
            writer.write_table(table)
        return path.name

    def close(self) -> None:
        """Gives the lock back. A folder that was made here and has no part goes, with the folders made above it."""
        if self._lock is None:
            return
        if self._made and self.path.is_dir() and not next(self.path.glob("part-*.arrow"), None):
            shutil.rmtree(self.path)
            with contextlib.suppress(OSError):  # others have put something there
                for folder in self._made[1:]:
                    folder.rmdir()
        self._lock.release()
        self._lock = None


def parts_folder(out: Path) -> Path:
    """Where the parts of an unfinished export to `out` are."""
    return out.with_name(f"{out.name}.parts")


def remove_parts(out: Path) -> None:
    """Removes all parts of an export to `out`, where there are any."""
    forget_parts()
    shutil.rmtree(parts_folder(out), ignore_errors=True)


def refuse_other_settings(out: Path, settings: Mapping[str, Any], remedy: str) -> None:
    """Raises ValueError where there are parts of an export to `out` with other settings.

    Args:
        out: the file that the export is to write.
        settings: plain data.
        remedy: what a person can do, besides finishing that export.
    """
    if differ := _other_settings(parts_folder(out), settings):
        raise ValueError(
            f"{parts_folder(out)}: holds an unfinished export with another {', '.join(differ)}; finish that one, "
            f"choose another name, or {remedy}"
        )


def _other_settings(folder: Path, settings: Mapping[str, Any]) -> list[str]:
    """Names of the settings in which the parts that are there differ; a folder without a part has none."""
    try:
        found = dict(json.loads((folder / _SETTINGS).read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except ValueError:
        return [_SETTINGS]  # damaged
    if not next(folder.glob("part-*.arrow"), None):
        return []
    plain = json.loads(json.dumps(dict(settings)))
    return sorted(name for name in plain.keys() | found.keys() if plain.get(name) != found.get(name))
