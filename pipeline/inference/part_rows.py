"""`PartRows`: reads the rows of many parts, from any ranks and runs, in the order of the dataset's index."""

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ROW = "row"  # column of parts only: the video's row number in the dataset's index
_TABLE_BYTES = 2**26


class PartRows:
    """Rows of finished parts by video; memory holds four numbers per video and one table of rows.

    A video that is in two parts is read from one of them.

    Args:
        parts: Arrow files of `schema`, in which the rows of a video are contiguous.
        schema: schema of the parts, with the column `ROW`.

    Attributes:
        videos: row numbers of the videos in the dataset's index, ascending, int64.
    """

    def __init__(self, parts: Sequence[Path], schema: pa.Schema) -> None:
        self._parts, self._schema = list(parts), schema
        found = [np.empty((0, 4), np.int64)]
        for number, part in enumerate(parts):
            rows = rows_of_part(part)
            first = np.concatenate([[0], np.flatnonzero(rows[1:] != rows[:-1]) + 1]) if len(rows) else rows
            counts = np.diff(first, append=len(rows))
            found.append(np.stack([rows[first], np.full(len(first), number), first, counts], axis=1))
        runs = np.concatenate(found)  # per video: row in the index, part, first row there, number of rows
        self.videos, first_of_video = np.unique(runs[:, 0], return_index=True)
        self._video_runs = runs[first_of_video]

    def restrict(self, videos: NDArray[np.int64], path: Path) -> Self:
        """Restricts the rows to some videos, in place.

        Args:
            videos: row numbers of the videos in the dataset's index, ascending.
            path: output file, named in the error.

        Raises:
            ValueError: videos are missing from the parts.
        """
        missing = np.setdiff1d(videos, self.videos)
        if len(missing):
            raise ValueError(
                f"{path}: {len(missing)} videos of the split are missing (the first is in row {missing[0]} of the "
                "index); run the same command again"
            )
        self.videos, self._video_runs = videos, self._video_runs[np.searchsorted(self.videos, videos)]
        return self

    @property
    def num_rows(self) -> int:
        """Number of rows of all videos."""
        return int(self._video_runs[:, 3].sum())

    def tables(self) -> Iterator[pa.Table]:
        """Yields the rows in the order of the videos, without `ROW`, in tables of about 64 MB.

        The number of rows per table depends on the schema alone, so that a file written from the tables has the same
        bytes for any division into parts.
        """
        size = max(1, _TABLE_BYTES // _row_bytes(self._schema))
        batch: list[pa.Table] = []
        capacity = size
        for part, first, count in self._runs():
            while count:
                batch.append(_open_part(self._parts[part]).slice(first, min(count, capacity)))
                first, count, capacity = first + len(batch[-1]), count - len(batch[-1]), capacity - len(batch[-1])
                if not capacity:
                    yield self._join(batch)
                    batch, capacity = [], size
        if batch:
            yield self._join(batch)

    def _runs(self) -> Iterator[tuple[int, int, int]]:
        """Yields part, first row and number of rows of each run of videos that are contiguous in a part."""
        if not len(self._video_runs):
            return
        _, parts, firsts, counts = self._video_runs.T
        follows = (parts[1:] == parts[:-1]) & (firsts[1:] == firsts[:-1] + counts[:-1])
        edges = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(parts)]
        for begin, end in itertools.pairwise(edges):
            yield int(parts[begin]), int(firsts[begin]), int(counts[begin:end].sum())

    def _join(self, tables: list[pa.Table]) -> pa.Table:
        return pa.concat_tables(tables).drop_columns(ROW).combine_chunks()


def _row_bytes(schema: pa.Schema) -> int:
    """Approximate size of a row in bytes: exact for fixed-size lists, 32 bytes for any other column."""
    lists = [field.type for field in schema if pa.types.is_fixed_size_list(field.type)]
    return 32 * len(schema) + sum(int(type_.list_size) * int(type_.value_type.bit_width) // 8 for type_ in lists)


def rows_of_part(path: Path) -> NDArray[np.int64]:
    """Reads the column `ROW` of a part: for each row its video's row number in the dataset's index, int64.

    Raises:
        ArrowInvalid: the file is not a whole Arrow file.
    """
    rows: NDArray[np.int64] = _open_part(path).column(ROW).to_numpy().copy()
    return rows


def forget_parts() -> None:
    """Unmaps all parts, so that they can be removed on any file system."""
    _open_part.cache_clear()


@lru_cache(maxsize=64)
def _open_part(path: Path) -> pa.Table:
    """Maps the file into memory, without reading it."""
    with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
        return reader.read_all()
