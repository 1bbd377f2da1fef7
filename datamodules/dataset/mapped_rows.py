"""Row numbers in a file, mapped into memory: of ten million videos 80 MB, of which no process keeps a page."""

import mmap
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.storage.errors import ShardFormatError

_LOOK_UPS = 16  # between two times that the pages are let go: at most 1 MB


class MappedRows(np.memmap[Any, np.dtype[np.int64]]):
    """Row numbers in a file, int64, read-only: pickled as the file's name, so that workers map it and copy nothing."""

    _look_ups = 0

    def __getitem__(self, places: Any) -> Any:
        """As of any array; look-ups leave no pages behind: around each of them the kernel maps 64 kB."""
        found = super().__getitem__(places)
        self._look_ups += 1
        if self._look_ups % _LOOK_UPS == 0:
            self.release()
        return found

    def release(self) -> None:
        """Let the pages go: they stay in the page cache and come back when they are used."""
        if isinstance(self.base, mmap.mmap):
            release_pages(self.base)

    def __reduce__(self) -> Any:
        """As the file's name; a part of the rows as the numbers themselves."""
        base: Any = self.base  # of the whole file the mapping, of a part the whole
        return (map_rows, (Path(str(self.filename)),)) if isinstance(base, mmap.mmap) else super().__reduce__()


def map_rows(path: Path) -> MappedRows:
    """The rows in a file.

    Raises:
        ShardFormatError: There is no such file any more.
    """
    try:
        return MappedRows(path, dtype=np.int64, mode="r")
    except FileNotFoundError:
        raise ShardFormatError(f"{path}: was removed while in use; start the run again") from None


def release_pages(mapping: mmap.mmap) -> None:
    """Let the pages of a file that is mapped to be read go: from the page table alone; who reads on faults again."""
    with suppress(OSError, AttributeError):
        mapping.madvise(mmap.MADV_DONTNEED)
