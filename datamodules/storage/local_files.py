"""Files on a local disk: byte ranges of shards through a bounded number of open files, and the digest of a file."""

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from datamodules.storage.errors import ShardFormatError


class _OpenFile:
    """A descriptor that closes with its last user: a reader in another thread may still hold an evicted one."""

    def __init__(self, path: Path):
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        # The descriptor is missing where os.open raised.
        if hasattr(self, "descriptor"):
            os.close(self.descriptor)


class OpenShards:
    """The shards of one folder, opened when first read, the least recently used closed.

    `os.pread` shares no file position, so threads need no lock while they read. A forked child starts with no open
    file of its own.

    Args:
        root: Folder of the shards.
        sizes: Size in bytes of every shard by file name; a file of another size is refused.
        max_open: At most so many files stay open, at least 1.
    """

    def __init__(self, root: Path, sizes: Mapping[str, int], max_open: int):
        if max_open < 1:
            raise ValueError(f"max_open_files={max_open}: must be at least 1")
        self.root = root
        self.sizes = sizes
        self.max_open = max_open
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._open: OrderedDict[str, _OpenFile] = OrderedDict()

    def __len__(self) -> int:
        """How many files are open in this process."""
        return len(self._open) if self._process == os.getpid() else 0

    def read(self, shard: str, offset: int, size: int) -> bytes:
        """Bytes [offset, offset + size) of a shard.

        Raises:
            ShardFormatError: The shard is missing, cannot be read, or is shorter than it should be.
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
        while len(data) < size and (more := os.pread(descriptor, size - len(data), offset + len(data))):
            data += more  # network file systems and sizes over 2 GiB give less than asked
        return data

    def _file(self, shard: str) -> _OpenFile:
        if self._process != os.getpid():
            self._forget()  # after a fork: closes the child's copies alone, and takes a lock nobody else holds
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


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
