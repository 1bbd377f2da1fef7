"""Disk cache shared by processes: a folder of bounded size with files named by sha256, evicted least recently used."""

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

_EVICTION_TARGET = 0.9  # fraction of the bound left by an eviction, so that the next one is not due at once
_ABANDONED_S = 3600  # age at which a temporary file is taken for one of a killed writer

_log = logging.getLogger(__name__)


class ByteCache:
    """A cache of remotely stored videos on a local disk.

    Files are renamed into place, so that readers never see partial ones, and their content is verified against their
    name. The total size is kept in a file, under a lock; a writer that would exceed the bound first removes the least
    recently used files. Space is reserved before a file is written: the folder never exceeds `max_bytes`, temporary
    files included. A cache that cannot be written is reported once and then not used; videos are read remotely again.

    Args:
        folder: The cache folder, created if missing. Processes and datasets may share it; it must hold nothing else.
        max_bytes: Maximum total size of the files, at least 1.
    """

    def __init__(self, folder: Path, max_bytes: int):
        if max_bytes < 1:
            raise ValueError(f"cache_bytes={max_bytes}: must be at least 1")
        self.folder = folder
        self.max_bytes = max_bytes
        self._usable = True

    def get(self, sha256: str) -> bytes | None:
        """The content of this digest, or None; a damaged file is removed."""
        path = self._path(sha256)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() != sha256:  # damaged, for example after a power failure
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)
        return data

    def put(self, sha256: str, data: bytes) -> None:
        """Stores content under its digest, if it fits."""
        if not self._usable or len(data) > self.max_bytes:
            return
        path = self._path(sha256)
        temporary = path.with_name(f".{uuid.uuid4().hex}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if self._reserve(temporary, len(data)):
                with temporary.open("r+b") as file:  # not "wb", which would release the reserved space
                    file.write(data)
                with self._locked_size_file():  # or an eviction could see neither name
                    temporary.replace(path)
        except OSError as error:
            self._usable = False
            with suppress(OSError):
                temporary.unlink()
            _log.warning("cache_dir=%s: not used any more (%s)", self.folder, error)

    def _path(self, sha256: str) -> Path:
        return self.folder / sha256[:2] / sha256

    def _reserve(self, temporary: Path, size: int) -> bool:
        """Creates the temporary file at its full size, after evicting others if needed; False if it does not fit."""
        with self._locked_size_file() as size_file:
            text = os.pread(size_file.fileno(), 32, 0)
            used = int(text) if text.isdigit() else self._evict(self.max_bytes)
            if used + size > self.max_bytes:
                used = self._evict(min(int(_EVICTION_TARGET * self.max_bytes), self.max_bytes - size))
            if used + size > self.max_bytes:
                return False
            with temporary.open("xb") as file:
                file.truncate(size)
            size_file.truncate(0)  # a crash here leaves an empty count, and the next process recounts
            size_file.write(b"%d" % (used + size))
            return True

    @contextmanager
    def _locked_size_file(self) -> Iterator[FileIO]:
        """Context with exclusive access of this process and thread to the file with the total size."""
        with file_lock(self.folder / "lock"), (self.folder / "bytes").open("a+b", buffering=0) as size_file:
            yield size_file

    def _evict(self, max_bytes: int) -> int:
        """Removes least recently used files until at most `max_bytes` bytes are left; returns the bytes left."""
        files = []
        for path in self.folder.glob("??/*"):
            with suppress(OSError):
                stat = path.stat()
                files.append((stat.st_mtime_ns, stat.st_size, path))
        used = sum(size for _, size, _ in files)
        for changed_ns, size, path in sorted(files):
            fresh_partial = path.suffix == ".partial" and time.time_ns() - changed_ns < _ABANDONED_S * 1e9
            if used > max_bytes and not fresh_partial:
                with suppress(OSError):
                    path.unlink()
                    used -= size
        return used
