"""A folder of byte strings named by their sha256, bounded in bytes, the oldest leaving first, for many processes."""

import hashlib
import logging
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from datamodules.storage.file_lock import file_lock

_FULL_TO = 0.9  # what an eviction leaves, so that the next one is not due at once
_ABANDONED_S = 3600  # a temporary file so old has lost its writer

_log = logging.getLogger(__name__)


class ByteCache:
    """Videos that were read from afar, kept on a local disk.

    Files come by renaming, so nobody reads a half-written one, and their content is held against their name. A lock
    file counts the bytes; whoever would exceed the bound first removes the files that were not used for longest. Room
    is reserved before a file is written: the folder never holds more than `max_bytes`, temporary files included. A
    cache that cannot be written is reported once and then left alone; the videos come from afar again.

    Args:
        folder: Made where it is not there. Processes and datasets may share it; nothing else may be in it.
        max_bytes: Bound on the bytes of all files, at least 1.
    """

    def __init__(self, folder: Path, max_bytes: int):
        if max_bytes < 1:
            raise ValueError(f"cache_bytes={max_bytes}: must be at least 1")
        self.folder = folder
        self.max_bytes = max_bytes
        self._usable = True

    def get(self, sha256: str) -> bytes | None:
        """The bytes of that name, or None; a damaged file is removed."""
        path = self._path(sha256)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() != sha256:  # a disk that lost power, or worse
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return data

    def put(self, sha256: str, data: bytes) -> None:
        """Keep bytes under their name, if they fit at all."""
        if not self._usable or len(data) > self.max_bytes:
            return
        path = self._path(sha256)
        temporary = path.with_name(f".{uuid.uuid4().hex}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if self._reserve(temporary, len(data)):
                with temporary.open("r+b") as file:  # not "wb", which would let go of the reserved size
                    file.write(data)
                with self._alone():  # or an eviction in the middle would see neither name
                    temporary.replace(path)
        except OSError as error:
            self._usable = False
            with suppress(OSError):
                temporary.unlink()
            _log.warning("cache_dir=%s: not used any more (%s)", self.folder, error)

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    def _reserve(self, temporary: Path, size: int) -> bool:
        """Make the temporary file at its full size, so that others count it; make room first. False: there is none."""
        with self._alone() as count:
            text = os.pread(count.fileno(), 32, 0)
            used = int(text) if text.isdigit() else self._evict(self.max_bytes)
            if used + size > self.max_bytes:
                used = self._evict(min(int(_FULL_TO * self.max_bytes), self.max_bytes - size))
            if used + size > self.max_bytes:
                return False
            with temporary.open("xb") as file:
                file.truncate(size)
            count.truncate(0)  # who dies here leaves an empty count: the next one counts anew
            count.write(b"%d" % (used + size))
            return True

    @contextmanager
    def _alone(self) -> Iterator[FileIO]:
        """The file with the count of bytes, while no other process or thread has it."""
        with file_lock(self.folder / "lock"), (self.folder / "bytes").open("a+b", buffering=0) as count:
            yield count

    def _evict(self, leave: int) -> int:
        """Remove the files not used for longest until at most `leave` bytes are there; returns how many are there."""
        files = []
        for path in self.folder.glob("??/*"):
            with suppress(OSError):
                stat = path.stat()
                files.append((stat.st_mtime_ns, stat.st_size, path))
        used = sum(size for _, size, _ in files)
        for changed_ns, size, path in sorted(files):
            fresh_partial = path.suffix == ".partial" and time.time_ns() - changed_ns < _ABANDONED_S * 1e9
            if used > leave and not fresh_partial:
                with suppress(OSError):
                    path.unlink()
                    used -= size
        return used
