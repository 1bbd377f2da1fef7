"""Local files: byte ranges of shards through a bounded number of open files, whole files, the digest of a file."""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from datamodules.storage.errors import ShardFormatError


class _OpenFile:
    """A file descriptor that is closed with its last user: another thread may still read from an evicted one."""

    def __init__(self, path: Path):
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        # The descriptor is missing if os.open raised.
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class OpenShards:
    """The shards of one folder, opened on first access; the least recently used are closed.

    `os.pread` does not use a shared file position, so threads need no lock while they read. A forked child starts
    without open files.

    Args:
        root: Folder of the shards.
        sizes: File name of every shard -> size in bytes; a file of another size is refused.
        max_open: Maximum number of open files, at least 1.
    """

    def __init__(self, root: Path, sizes: Mapping[str, int], max_open: int):
        if max_open < 1:
            raise ValueError(f"max_open_files={max_open}: must be at least 1")
        self.root = root
        self.sizes = sizes
        self.max_open = max_open
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()

    def __len__(self) -> int:
        """Number of files that are open in this process."""
        return len(self._open) if self._process == os.getpid() else 0

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """Bytes [offset, offset + size) of a shard.

        Raises:
            ShardFormatError: The shard is missing, cannot be read, or is too short.
        """
        try:
            file = self._file(shard)  # kept in a variable: another thread may evict it while this one reads
            data = self._read(file.descriptor, offset, size)
        except FileNotFoundError:
            raise ShardFormatError(
                f"{self.root / shard}: the shard is missing; copy it here or run pack again"
            ) from None
        except OSError as error:
            raise ShardFormatError(f"{self.root / shard}: cannot be read ({error.strerror}); check the disk") from None
        if len(data) != size:
            raise ShardFormatError(
                f"{self.root / shard}: ends {size - len(data)} bytes early at byte {offset + len(data)}; "
                "copy it again or run pack again"
            )
        return data

    @staticmethod
    def _read(descriptor: int, offset: int, size: int) -> bytes:
        data = os.pread(descriptor, size, offset)
        while len(data) < size and (chunk := os.pread(descriptor, size - len(data), offset + len(data))):
            data += chunk  # reads over 2 GiB, and from network file systems, may be short
        return data

    def _file(self, shard: str) -> _OpenFile:
        if self._process != os.getpid():
            self._reset()  # after a fork: closes only the child's copies, with a new lock
        with self._lock:
            if shard in self._open:
                self._open.move_to_end(shard)
                return self._open[shard]
            file = _OpenFile(self.root / shard)
            size = os.fstat(file.descriptor).st_size
            if size != self.sizes.get(shard, size):
                raise ShardFormatError(
                    f"{self.root / shard}: has {size} bytes, dataset.json says {self.sizes[shard]}; copy it again or "
                    "run pack again"
                )
            self._open[shard] = file
            if len(self._open) > self.max_open:
                self._open.popitem(last=False)
            return file


class WholeFiles:
    """Files of a folder that are read whole: each stands for a shard of one video.

    Args:
        root: Folder that the names of the files are relative to.
    """

    def __init__(self, root: Path):
        self.root = root

    def path(self, name: str) -> Path:
        """The path of a file."""
        return self.root / name

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Bytes [offset, offset + size) of a file.

        Raises:
            OSError: The file is missing or cannot be read.
        """
        with self.path(name).open("rb") as file:
            file.seek(offset)
            return file.read(size)


def file_sha256(path: Path) -> str:
    """The sha256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
