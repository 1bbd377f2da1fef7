"""What a checkpoint was trained on, in few bytes, so that it can be recognized in any dataset.

Of each training video eight bytes of its digest and a sketch, a few of the hashes of its frames; of each group that has
more than one name to it eight bytes. A video that was packed anew, in another size or from another file, has another
digest and nearly the same sketch. 72 bytes a video: 22 MB for the 300,000 of Kinetics-700, 0.3 MB for UCF101.
"""

import hashlib
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from datamodules.leakage.near_duplicates import distance
from datamodules.leakage.perceptual_hash import FLAT

SKETCH = 8  # frame hashes of a video that are kept, evenly spread
MAX_SKETCHED = 1_000_000  # of more videos no sketches are kept: 64 MB of them
_MAX_DISTANCE = 8  # bits of 64 in which a frame may differ: the videos are the same, not merely of one source
_MIN_ALIKE = 0.75  # of the frames that show anything
_MIN_SHOWN = 4  # of these
_PIECES = 4  # of 16 bits: a candidate has one of them in common, in one of its frames
_BLOCK = 2**20

Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]


class VideoIndex(Protocol):
    """What is asked of the index of a dataset: `datamodules.dataset.dataset_index.DatasetIndex` has it."""

    def column(self, name: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any] | list[Any]:
        """The values of a column in these rows."""

    def frame_hashes(self, rows: npt.NDArray[np.int64]) -> tuple[Hashes, npt.NDArray[np.int64]]:
        """The frame hashes of these rows, one after the other, and where those of each begin: int64 (M + 1,)."""


class FingerprintMatches(NamedTuple):
    """Which of some videos were seen, bool (M,) each.

    Attributes:
        content: of the same bytes, or showing the same from beginning to end.
        groups: of a group that was trained on.
    """

    content: Flags
    groups: Flags


class TrainingFingerprint(NamedTuple):
    """The training videos of a checkpoint.

    Attributes:
        digests: uint64 (n,), ascending: the first bytes of each video's `content_sha256`.
        groups: uint64 (g,), ascending: of the groups' names; those of videos that are a group of their own, under their
            key, are left out: they say nothing outside their dataset.
        sketches: uint64 (n, SKETCH), in any order; (0, SKETCH) where there are none.
    """

    digests: Hashes
    groups: Hashes
    sketches: Hashes

    @classmethod
    def of(cls, index: VideoIndex, rows: npt.NDArray[np.int64]) -> Self:
        """Those in these rows of a dataset."""
        known = groups_of(index, rows)
        few = rows if len(rows) <= MAX_SKETCHED else rows[:0]
        return cls(np.sort(digests_of(index, rows)), np.unique(known[known != 0]), frame_hash_sketches(index, few))

    def state(self) -> dict[str, torch.Tensor]:
        """As tensors, for a checkpoint."""
        return {name: torch.from_numpy(value.view(np.int64).copy()) for name, value in self._asdict().items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """What `state` gave.

        Raises:
            KeyError: something is missing.
        """
        return cls(*(state[name].numpy().view(np.uint64) for name in cls._fields))

    def find(self, index: VideoIndex, rows: npt.NDArray[np.int64]) -> FingerprintMatches:
        """Which of the videos in these rows of any dataset were trained on."""
        content = _is_in(digests_of(index, rows), self.digests)
        content |= find_alike(frame_hash_sketches(index, rows), self.sketches)
        groups = groups_of(index, rows)
        return FingerprintMatches(content, _is_in(groups, self.groups) & (groups != 0))


def digests_of(index: VideoIndex, rows: npt.NDArray[np.int64]) -> Hashes:
    """The first eight bytes of the digests of videos: uint64 (M,)."""
    return np.array([int(digest[:16], 16) for digest in index.column("content_sha256", rows)], dtype=np.uint64)


def groups_of(index: VideoIndex, rows: npt.NDArray[np.int64]) -> Hashes:
    """The groups' names as numbers: uint64 (M,), 0 for a video without a group, or whose group is its key."""
    keys, groups = index.column("key", rows), index.column("group", rows)
    return np.array(
        [_number(group) if group and group != key else 0 for key, group in zip(keys, groups, strict=True)],
        dtype=np.uint64,
    )


def frame_hash_sketches(index: VideoIndex, rows: npt.NDArray[np.int64]) -> Hashes:
    """Of each video `SKETCH` of its frame hashes, evenly spread; uint64 (M, SKETCH), all `FLAT` where it has none."""
    hashes, starts = index.frame_hashes(rows)
    counts = np.diff(starts)
    known = counts >= _MIN_SHOWN
    places = (np.arange(SKETCH) + 0.5) / SKETCH
    sketches = np.full((len(rows), SKETCH), FLAT, dtype=np.uint64)
    sketches[known] = hashes[starts[:-1][known, None] + (places * counts[known, None]).astype(np.int64)]
    return sketches


def find_alike(asked: Hashes, known: Hashes) -> Flags:
    """Which sketches are nearly those of a known video: bool (M,).

    Args:
        asked: uint64 (M, SKETCH).
        known: uint64 (n, SKETCH).

    Returns:
        True where, of the frames that show anything in both videos, at least four, three in four differ in few bits.
    """
    found = np.zeros(len(asked), dtype=bool)
    for frame in range(SKETCH):
        for piece in range(_PIECES):
            shift = np.uint64(16 * piece)
            bits, others = ((of[:, frame] >> shift) & np.uint64(0xFFFF) for of in (asked, known))
            left = np.flatnonzero(~found & (asked[:, frame] != FLAT))
            order = np.argsort(others, kind="stable")
            first, last = (np.searchsorted(others[order], bits[left], side) for side in ("left", "right"))
            _compare(asked, known, left, order, first, last, found)
    return found


def _compare(
    asked: Hashes,
    known: Hashes,
    left: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
    found: Flags,
) -> None:
    """Compares each of `left` with `known[order[first:last]]`, a bounded number of pairs at a time; sets `found`."""
    ends = np.cumsum(last - first)
    start = 0
    while start < len(left):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _BLOCK, "right")))
        counts = (last - first)[start:stop]
        owners = np.repeat(left[start:stop], counts)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        others = order[np.repeat(first[start:stop], counts) + offsets]
        found[owners[_alike(asked[owners], known[others])]] = True
        start = stop


def _alike(first: Hashes, second: Hashes) -> Flags:
    shown = (first != FLAT) & (second != FLAT)
    near = shown & (distance(first, second) <= _MAX_DISTANCE)
    count = shown.sum(axis=1)
    alike: Flags = (count >= _MIN_SHOWN) & (near.sum(axis=1) >= _MIN_ALIKE * count)
    return alike


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") or 1


def _is_in(asked: Hashes, known: Hashes) -> Flags:
    """Which numbers are among the known ones, which are ascending: bool (M,)."""
    if not len(known):
        return np.zeros(len(asked), dtype=bool)
    places = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    found: Flags = known[places] == asked
    return found
