"""`FeatureRows`: the features of many videos, in memory or in a file, read block by block."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BLOCK_BYTES = 2**25  # bytes of float32 features; memory also holds their scores and a float64 copy of twice the size


class FeatureRows:
    """M rows of D float32 features, read in blocks of consecutive rows; a subset of the rows can be chosen.

    Blocks are the same whether the rows are in memory or in a file, so sums over blocks are equal to the last bit.

    Args:
        stored: all rows, float32 (M0, D), or an open file that contains them and nothing else.
        dimension: number of features of a row, D.
        chosen: int64 (M,), row numbers, ascending; default: all rows.
    """

    def __init__(
        self, stored: NDArray[np.float32] | BinaryIO, dimension: int, chosen: NDArray[np.int64] | None = None
    ) -> None:
        self._stored = stored
        self.dimension = dimension
        self._chosen = chosen
        in_memory = isinstance(stored, np.ndarray)
        self._count = len(stored) if in_memory else _file_size(stored) // (4 * dimension)  # type: ignore[arg-type]
        self._block_rows = max(1, _BLOCK_BYTES // (4 * dimension))

    @classmethod
    def from_array(cls, features: NDArray[np.float32]) -> Self:
        """The rows of an array (M, D)."""
        return cls(np.ascontiguousarray(features, dtype=np.float32), features.shape[1])

    def __len__(self) -> int:
        return self._count if self._chosen is None else len(self._chosen)

    def choose(self, rows: NDArray[np.integer] | Sequence[int]) -> Self:
        """A subset of these rows, by their numbers, which must ascend; nothing is copied."""
        chosen: NDArray[np.int64] = np.asarray(rows, dtype=np.int64)
        if (np.diff(chosen) <= 0).any():
            raise ValueError("rows: must ascend")
        return type(self)(self._stored, self.dimension, chosen if self._chosen is None else self._chosen[chosen])

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Yields the number of a block's first row, and the block: float32 (B, D), not to be stored or changed."""
        done = 0
        for first in range(0, self._count, self._block_rows):
            last = min(first + self._block_rows, self._count)
            if self._chosen is None:
                yield first, torch.from_numpy(self._read(first, last))
                continue
            begin, end = np.searchsorted(self._chosen, [first, last])
            if begin < end:
                yield done, torch.from_numpy(self._read(first, last)[self._chosen[begin:end] - first])
                done += int(end - begin)

    def sample(self, count: int) -> Tensor:
        """At most `count` rows, evenly spaced: float32 (count, D)."""
        positions = np.unique(np.linspace(0, len(self) - 1, min(count, len(self))).astype(np.int64))
        return torch.cat([block.clone() for _, block in self.choose(positions).blocks()])

    def _read(self, first: int, last: int) -> NDArray[np.float32]:
        if isinstance(self._stored, np.ndarray):
            return self._stored[first:last]
        self._stored.seek(4 * self.dimension * first)
        content = bytearray(self._stored.read(4 * self.dimension * (last - first)))
        return np.frombuffer(content, np.float32).reshape(-1, self.dimension)


def _file_size(file: BinaryIO) -> int:
    return file.seek(0, 2)
