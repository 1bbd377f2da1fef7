"""Epoch plan: which rank reads which samples in which step, as integer arithmetic without I/O.

A sample is a number in [0, num_samples), its position in the list of a split's videos. An epoch is a keyed permutation
of these numbers. Every step takes the next `world_size * batch_size` positions of the permutation, and rank r the r-th
part of them. So the order depends on seed and epoch alone, and what is left after `consumed` positions is the same for
any number of ranks: two integers, epoch and `consumed`, are enough to resume a run.

Example, checked by hand: 10 samples, 2 ranks, 2 videos per rank and step, not shuffled:

    step 0:  rank 0 [0, 1]   rank 1 [2, 3]
    step 1:  rank 0 [4, 5]   rank 1 [6, 7]
    step 2:  rank 0 [8]      rank 1 [9]         (the rest, split evenly)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from datamodules.sampling.class_balance import BalancedEpoch, Draws, Strata
from datamodules.sampling.keyed_permutation import Integers, KeyedPermutation

Shuffle = Literal["global", "shards", "none"]


class ShardPermutation:
    """A permutation that reads shards in random order, shuffling the samples of `window` shards together.

    For object stores, where reads close to the previous one are cheap. Samples are numbered shard after shard.

    Args:
        shard_sizes: number of samples of each shard, in order.
        window: number of shards that are shuffled together; 1 shuffles within each shard only.
        key: any integers, such as the seed and the epoch.
    """

    def __init__(self, shard_sizes: Sequence[int], window: int, *key: int) -> None:
        if window < 1:
            raise ValueError(f"window={window}: must be at least 1")
        sizes = np.asarray(shard_sizes, dtype=np.int64)
        first = np.cumsum(sizes) - sizes  # number of the first sample of each shard
        order = KeyedPermutation(len(sizes), *key, 0)(np.arange(len(sizes)))
        self.size = int(sizes.sum())
        self._key = key
        self._window = window
        self._first = first[order]
        self._shard_start = np.concatenate([[0], np.cumsum(sizes[order])])  # position where each shard starts
        self._window_start = self._shard_start[:-1:window]

    def __call__(self, positions: Integers) -> Integers:
        """The numbers at the given positions: int64 in [0, size), same shape."""
        positions = np.asarray(positions, dtype=np.int64)
        numbers = np.empty_like(positions)
        windows = np.searchsorted(self._window_start, positions, side="right") - 1
        for window in np.unique(windows):
            in_window = windows == window
            start = self._window_start[window]
            end = self._shard_start[min((int(window) + 1) * self._window, len(self._first))]
            shuffled = start + KeyedPermutation(int(end - start), *self._key, 1, int(window))(
                positions[in_window] - start
            )
            shard = np.searchsorted(self._shard_start, shuffled, side="right") - 1
            numbers[in_window] = self._first[shard] + shuffled - self._shard_start[shard]
        return numbers


@dataclass(frozen=True)
class TrainPlan:
    """The training batches of every rank, epoch and resume point.

    All ranks take the same number of steps with batches of the same size. The last step of an epoch is smaller: the
    rest is split evenly, which leaves out at most `world_size - 1` videos per epoch (different ones in each).

    Attributes:
        num_samples: number of videos in the split.
        batch_size: videos per rank and step.
        world_size: number of ranks.
        seed: key of the order, together with the epoch.
        shuffle: `global`, `shards` (see `ShardPermutation`) or `none`.
        shard_sizes: number of videos in each shard, for `shuffle="shards"`.
        shard_window: number of shards that are shuffled together, for `shuffle="shards"`.
        drop_last: skip the smaller last step, at most `world_size * batch_size - 1` videos.
        strata: the videos by class, for a class-balanced epoch, which has `num_samples` positions too, but draws some
            videos several times and others not (see `datamodules.sampling.class_balance`); None draws each once.
    """

    num_samples: int
    batch_size: int
    world_size: int = 1
    seed: int = 0
    shuffle: Shuffle = "global"
    shard_sizes: tuple[int, ...] = ()
    shard_window: int = 16
    drop_last: bool = False
    strata: Strata | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "world_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.shuffle == "shards" and sum(self.shard_sizes) != self.num_samples:
            raise ValueError(f"shard_sizes add up to {sum(self.shard_sizes)}, but num_samples={self.num_samples}")
        if self.strata is not None and len(self.strata.samples) != self.num_samples:
            raise ValueError(f"strata have {len(self.strata.samples)} videos, but num_samples={self.num_samples}")
        if self.strata is not None and self.shuffle != "global":
            raise ValueError(
                f"shuffle={self.shuffle!r}: a class-balanced epoch has the order of shuffle='global' alone"
            )
        if self.num_steps() == 0:
            step = self.world_size * (self.batch_size if self.drop_last else 1)
            raise ValueError(
                f"{self.num_samples} training videos are too few for one step of {step}: use fewer ranks, "
                "a smaller batch_size or drop_last=False"
            )

    def num_steps(self, consumed: int = 0) -> int:
        """Steps left in an epoch after `consumed` positions; the same on every rank."""
        full, tail = divmod(self.num_samples - consumed, self.world_size * self.batch_size)
        return full + int(tail >= self.world_size and not self.drop_last)

    def consumed_after(self, steps: int, consumed: int = 0) -> int:
        """Positions consumed by all ranks together after `steps` more steps."""
        return min(consumed + steps * self.world_size * self.batch_size, self.num_samples)

    def batches(self, epoch: int, rank: int, consumed: int = 0) -> Iterator[Integers]:
        """A rank's batches of an epoch from position `consumed` on.

        Args:
            epoch: number of the epoch, from 0.
            rank: the rank, in [0, world_size).
            consumed: positions of this epoch that all ranks together have trained on.

        Yields:
            int64 (B,) sample numbers, B = `batch_size` but for a smaller last batch; `num_steps(consumed)` times.
        """
        for draws in self.draws(epoch, rank, consumed):
            yield draws.samples

    def draws(self, epoch: int, rank: int, consumed: int = 0) -> Iterator[Draws]:
        """The batches of `batches`, with the pass of each sample in a class-balanced epoch; otherwise all are 0."""
        if self.strata is None:
            permutation = self._permutation(epoch)
            for positions in self._positions(rank, consumed):
                yield Draws(permutation(positions), np.zeros_like(positions))
        else:
            balanced_epoch = BalancedEpoch(self.strata, self.seed, epoch)
            for positions in self._positions(rank, consumed):
                yield balanced_epoch(positions)

    def _positions(self, rank: int, consumed: int) -> Iterator[Integers]:
        """The positions of a rank's batches in the epoch's order."""
        for step in range(self.num_steps(consumed)):
            start = consumed + step * self.world_size * self.batch_size
            size = min(self.batch_size, (self.num_samples - start) // self.world_size)
            first = start + rank * size
            yield np.arange(first, first + size)

    def _permutation(self, epoch: int) -> "KeyedPermutation | ShardPermutation | _IdentityPermutation":
        if self.shuffle == "global":
            return KeyedPermutation(self.num_samples, self.seed, epoch)
        if self.shuffle == "shards":
            return ShardPermutation(self.shard_sizes, self.shard_window, self.seed, epoch)
        return _IdentityPermutation()


class _IdentityPermutation:
    def __call__(self, positions: Integers) -> Integers:
        return positions


class EvaluationBatches(Sequence[Integers]):
    """A rank's evaluation batches: every sample that is left is in exactly one batch of one rank.

    The split is cut into batches of neighbors before anything is left out, and each rank reads a block of neighboring
    batches: what an evaluation that was stopped still has to do are the batches that it would have had, with bitwise
    equal results. All ranks get the same number of batches, at least one: a rank that has fewer ends with empty
    batches, so that collectives match and Lightning never gets a loader of length zero. Batches are computed on access,
    not stored: int64 (B,) sample numbers, 0 <= B <= `batch_size`.

    Args:
        num_samples: number of videos in the split, at least 0.
        batch_size: videos per batch, at most; fewer where a rank would have none.
        rank: the rank, in [0, world_size).
        world_size: number of ranks.
        done: samples to leave out, bool (num_samples,); default: none.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        done: NDArray[np.bool_] | None = None,
    ) -> None:
        for name, value in (("batch_size", batch_size), ("world_size", world_size)):
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        self._num_samples, self._done = num_samples, done
        self._batch_size = min(batch_size, max(1, -(-num_samples // world_size)))
        batches: Sequence[int] = range(-(-num_samples // self._batch_size))
        if done is not None:
            batches = np.unique(np.flatnonzero(~done) // self._batch_size).tolist()
        first, last = (len(batches) * number // world_size for number in (rank, rank + 1))
        self._batches = batches[first:last]
        self._length = max(1, -(-len(batches) // world_size))

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, number: int) -> Integers: ...
    @overload
    def __getitem__(self, number: slice) -> list[Integers]: ...
    def __getitem__(self, number: int | slice) -> Integers | list[Integers]:
        """A batch by its number, or a list of batches for a slice."""
        if isinstance(number, slice):
            return [self[index] for index in range(*number.indices(self._length))]
        position = range(self._length)[number]  # IndexError beyond the end
        if position >= len(self._batches):
            return np.arange(0)
        first = self._batches[position] * self._batch_size
        samples = np.arange(first, min(first + self._batch_size, self._num_samples))
        return samples if self._done is None else samples[~self._done[samples]]
