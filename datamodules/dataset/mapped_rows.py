"""Memory-mapped row numbers: 80 MB for ten million videos, of which no process keeps pages."""

import mmap
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.storage.errors import ShardFormatError

_LOOKUPS_PER_RELEASE = 16  # look-ups between two releases of the pages: at most 1 MB


class MappedRows(np.memmap[Any, np.dtype[np.int64]]):
    """Row numbers in a file, int64, read-only; pickled as the file's name, so that workers map it without a copy."""

    _num_lookups = 0

    def __getitem__(self, key: Any) -> Any:
        """Array indexing, with regular releases of the pages: the kernel maps 64 kB around each access."""
        rows = super().__getitem__(key)
        self._num_lookups += 1
        if self._num_lookups % _LOOKUPS_PER_RELEASE == 0:
            self.release()
        return rows

    def release(self) -> None:
        """Unmaps the pages: they stay in the page cache, and are mapped again on access."""
        if isinstance(self.base, mmap.mmap):
            release_pages(self.base)

    def __reduce__(self) -> Any:
        """Pickles the whole array as the file's name, a part of it as numbers."""
        base: Any = self.base  # the mapping for the whole file, the whole array for a part
        return (map_rows, (Path(str(self.filename)),)) if isinstance(base, mmap.mmap) else super().__reduce__()


def map_rows(path: Path) -> MappedRows:
    """Maps the row numbers in a file.

    Raises:
        ShardFormatError: The file does not exist any more.
    """
    try:
        return MappedRows(path, dtype=np.int64, mode="r")
    except FileNotFoundError:
        raise ShardFormatError(f"{path}: was removed while in use; start the run again") from None


def release_pages(mapping: mmap.mmap) -> None:
    """Unmaps the pages of a read-only file mapping from the page table; the next access faults them in again."""
    with suppress(OSError, AttributeError):
        mapping.madvise(mmap.MADV_DONTNEED)
