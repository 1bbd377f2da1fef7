"""`PartRows`: the rows of many parts, whoever wrote them, in the order of the dataset's index."""

import itertools
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

ROW = "row"  # the column of the parts, and of nothing else, that has the video's row in the dataset's index
_TABLE_BYTES = 2**26


class PartRows:
    """The rows of finished parts, by video; in memory are four numbers a video, and a table's worth of rows.

    A video that is in two parts counts once.

    Args:
        parts: Arrow files of `schema`, in which the rows of a video are neighbors.
        schema: with the column `ROW`.

    Attributes:
        videos: rows of the videos in the dataset's index, ascending, int64.
    """

    def __init__(self, parts: Sequence[Path], schema: pa.Schema) -> None:
        self._parts, self._schema = list(parts), schema
        found = [np.empty((0, 4), np.int64)]
        for number, part in enumerate(parts):
            rows = rows_of_part(part)
            first = np.concatenate([[0], np.flatnonzero(rows[1:] != rows[:-1]) + 1]) if len(rows) else rows
            counts = np.diff(first, append=len(rows))
            found.append(np.stack([rows[first], np.full(len(first), number), first, counts], axis=1))
        places = np.concatenate(found)  # a line a video: its row in the index, its part, its first row there, its rows
        self.videos, kept = np.unique(places[:, 0], return_index=True)
        self._places = places[kept]

    def only(self, videos: NDArray[np.int64], path: Path) -> Self:
        """Those of some videos.

        Args:
            videos: ascending.
            path: named in the error.

        Raises:
            ValueError: some are missing.
        """
        missing = np.setdiff1d(videos, self.videos)
        if len(missing):
            raise ValueError(
                f"{path}: {len(missing)} videos of the split are missing (the first is in row {missing[0]} of the "
                "index); run the same command again"
            )
        self.videos, self._places = videos, self._places[np.searchsorted(self.videos, videos)]
        return self

    @property
    def num_rows(self) -> int:
        """Rows of all videos."""
        return int(self._places[:, 3].sum())

    def tables(self) -> Iterator[pa.Table]:
        """Yields the rows in the order of their videos, without `ROW`, in tables of about 64 MB.

        Where a table ends depends on the schema alone: a file made of them has the same bytes whatever the parts.
        """
        size = max(1, _TABLE_BYTES // _row_bytes(self._schema))
        waiting: list[pa.Table] = []
        room = size
        for part, first, count in self._runs():
            while count:
                waiting.append(_open_part(self._parts[part]).slice(first, min(count, room)))
                first, count, room = first + len(waiting[-1]), count - len(waiting[-1]), room - len(waiting[-1])
                if not room:
                    yield self._join(waiting)
                    waiting, room = [], size
        if waiting:
            yield self._join(waiting)

    def _runs(self) -> Iterator[tuple[int, int, int]]:
        """Part, first row and number of rows of neighbors, each of at most a table's rows."""
        if not len(self._places):
            return
        _, parts, firsts, counts = self._places.T
        follows = (parts[1:] == parts[:-1]) & (firsts[1:] == firsts[:-1] + counts[:-1])
        edges = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(parts)]
        for begin, end in itertools.pairwise(edges):
            yield int(parts[begin]), int(firsts[begin]), int(counts[begin:end].sum())

    def _join(self, tables: list[pa.Table]) -> pa.Table:
        return pa.concat_tables(tables).drop_columns(ROW).combine_chunks()


def _row_bytes(schema: pa.Schema) -> int:
    """About what a row takes: lists of a fixed size exactly, all else as a short text."""
    lists = [field.type for field in schema if pa.types.is_fixed_size_list(field.type)]
    return 32 * len(schema) + sum(int(one.list_size) * int(one.value_type.bit_width) // 8 for one in lists)


def rows_of_part(path: Path) -> NDArray[np.int64]:
    """For each row of a part its video's row in the dataset's index: int64; nothing else of the part is read.

    Raises:
        ArrowInvalid: not a whole Arrow file.
    """
    rows: NDArray[np.int64] = _open_part(path).column(ROW).to_numpy().copy()
    return rows


def forget_parts() -> None:
    """Unmaps all parts, so that they can be removed on any file system."""
    _open_part.cache_clear()


@lru_cache(maxsize=64)
def _open_part(path: Path) -> pa.Table:
    """Mapped into memory, not read."""
    with pa.ipc.open_file(pa.memory_map(str(path))) as reader:
        return reader.read_all()
