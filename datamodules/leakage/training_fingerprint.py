"""Training fingerprint: compact description of a checkpoint's training videos, recognizable in any dataset.

It has, for each training video, eight bytes of its digest and a sketch, a few of the hashes of its frames; and for each
group of several videos, eight bytes of its name. A video that was packed again, at another size or from another file,
has another digest and nearly the same sketch. 72 bytes per video: 22 MB for the 300,000 of Kinetics-700, 0.3 MB for
UCF101.
"""

import hashlib
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import torch

from datamodules.leakage.near_duplicates import distance
from datamodules.leakage.perceptual_hash import FLAT

SKETCH_SIZE = 8  # frame hashes kept per video, evenly spaced
MAX_SKETCHED = 1_000_000  # for more videos no sketches are kept: 64 MB
_MAX_DISTANCE = 8  # maximum Hamming distance of a frame, of 64 bits: the same video, not merely the same source
_MIN_SIMILAR_FRACTION = 0.75  # required fraction of matching frames, of those with contrast in both
_MIN_CONTRASTING = 4  # minimum number of frames with contrast in both
_PIECES = 4  # 16-bit pieces of a hash: a candidate has one in common, in one of its frames
_BLOCK = 2**20

Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]


class VideoIndex(Protocol):
    """The part of a dataset's index that is used: `datamodules.dataset.dataset_index.DatasetIndex` implements it."""

    def column(self, name: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any] | list[Any]:
        """The values of a column in these rows."""

    def frame_hashes(self, rows: npt.NDArray[np.int64]) -> tuple[Hashes, npt.NDArray[np.int64]]:
        """The concatenated frame hashes of these rows, and the start of each row's: int64 (M + 1,)."""


class FingerprintMatches(NamedTuple):
    """Which of M videos were trained on, bool (M,) each.

    Attributes:
        content: videos with the same bytes, or the same content from beginning to end.
        groups: videos of a group that was trained on.
    """

    content: Flags
    groups: Flags


class TrainingFingerprint(NamedTuple):
    """The fingerprint of the training videos of a checkpoint.

    Attributes:
        digests: uint64 (n,), ascending: the first bytes of each video's `content_sha256`.
        groups: uint64 (g,), ascending: hashes of the groups' names; without groups of one video that are named by its
            key, which have no meaning outside the dataset.
        sketches: uint64 (n, SKETCH_SIZE), in any order; (0, SKETCH_SIZE) if there are none.
    """

    digests: Hashes
    groups: Hashes
    sketches: Hashes

    @classmethod
    def from_index(cls, index: VideoIndex, rows: npt.NDArray[np.int64]) -> Self:
        """The fingerprint of the videos in these rows of a dataset."""
        groups = groups_of(index, rows)
        sketched_rows = rows if len(rows) <= MAX_SKETCHED else rows[:0]
        return cls(
            np.sort(digests_of(index, rows)), np.unique(groups[groups != 0]), frame_hash_sketches(index, sketched_rows)
        )

    def state(self) -> dict[str, torch.Tensor]:
        """The fingerprint as tensors, for a checkpoint."""
        return {name: torch.from_numpy(value.view(np.int64).copy()) for name, value in self._asdict().items()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Restores a fingerprint from the result of `state`.

        Raises:
            KeyError: an entry is missing.
        """
        return cls(*(state[name].numpy().view(np.uint64) for name in cls._fields))

    def find(self, index: VideoIndex, rows: npt.NDArray[np.int64]) -> FingerprintMatches:
        """Which of the videos in these rows of a dataset were trained on."""
        content = _is_in(digests_of(index, rows), self.digests)
        content |= find_similar_sketches(frame_hash_sketches(index, rows), self.sketches)
        groups = groups_of(index, rows)
        return FingerprintMatches(content, _is_in(groups, self.groups) & (groups != 0))


def digests_of(index: VideoIndex, rows: npt.NDArray[np.int64]) -> Hashes:
    """The first eight bytes of the digests of videos: uint64 (M,)."""
    return np.array([int(digest[:16], 16) for digest in index.column("content_sha256", rows)], dtype=np.uint64)


def groups_of(index: VideoIndex, rows: npt.NDArray[np.int64]) -> Hashes:
    """Hashes of the groups' names: uint64 (M,), 0 for videos without a group or with their key as the group."""
    keys, groups = index.column("key", rows), index.column("group", rows)
    return np.array(
        [_hash_name(group) if group and group != key else 0 for key, group in zip(keys, groups, strict=True)],
        dtype=np.uint64,
    )


def frame_hash_sketches(index: VideoIndex, rows: npt.NDArray[np.int64]) -> Hashes:
    """`SKETCH_SIZE` evenly spaced frame hashes of each video: uint64 (M, SKETCH_SIZE), `FLAT` if it has none."""
    hashes, starts = index.frame_hashes(rows)
    counts = np.diff(starts)
    has_hashes = counts >= _MIN_CONTRASTING
    positions = (np.arange(SKETCH_SIZE) + 0.5) / SKETCH_SIZE
    sketches = np.full((len(rows), SKETCH_SIZE), FLAT, dtype=np.uint64)
    sketches[has_hashes] = hashes[
        starts[:-1][has_hashes, None] + (positions * counts[has_hashes, None]).astype(np.int64)
    ]
    return sketches


def find_similar_sketches(queries: Hashes, references: Hashes) -> Flags:
    """Which sketches are nearly equal to that of a known video: bool (M,).

    Args:
        queries: uint64 (M, SKETCH_SIZE), the sketches to look up.
        references: uint64 (n, SKETCH_SIZE), the sketches to compare with.

    Returns:
        True if at least four frames have contrast in both videos, and three in four of these differ in few bits.
    """
    found = np.zeros(len(queries), dtype=bool)
    for frame in range(SKETCH_SIZE):
        for piece in range(_PIECES):
            shift = np.uint64(16 * piece)
            bits, others = ((sketches[:, frame] >> shift) & np.uint64(0xFFFF) for sketches in (queries, references))
            left = np.flatnonzero(~found & (queries[:, frame] != FLAT))
            order = np.argsort(others, kind="stable")
            first, last = (np.searchsorted(others[order], bits[left], side) for side in ("left", "right"))
            _mark_similar(queries, references, left, order, first, last, found)
    return found


def _mark_similar(
    queries: Hashes,
    references: Hashes,
    left: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    last: npt.NDArray[np.int64],
    found: Flags,
) -> None:
    """Compares each of `left` with `known[order[first:last]]`, in blocks of bounded size, and sets `found`."""
    ends = np.cumsum(last - first)
    start = 0
    while start < len(left):
        num_compared = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, num_compared + _BLOCK, "right")))
        counts = (last - first)[start:stop]
        owners = np.repeat(left[start:stop], counts)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        others = order[np.repeat(first[start:stop], counts) + offsets]
        found[owners[_are_similar(queries[owners], references[others])]] = True
        start = stop


def _are_similar(first: Hashes, second: Hashes) -> Flags:
    shown = (first != FLAT) & (second != FLAT)
    near = shown & (distance(first, second) <= _MAX_DISTANCE)
    count = shown.sum(axis=1)
    alike: Flags = (count >= _MIN_CONTRASTING) & (near.sum(axis=1) >= _MIN_SIMILAR_FRACTION * count)
    return alike


def _hash_name(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") or 1


def _is_in(numbers: Hashes, sorted_numbers: Hashes) -> Flags:
    """Which numbers are among the known ones, which are sorted ascending: bool (M,)."""
    if not len(sorted_numbers):
        return np.zeros(len(numbers), dtype=bool)
    positions = np.minimum(np.searchsorted(sorted_numbers, numbers), len(sorted_numbers) - 1)
    found: Flags = sorted_numbers[positions] == numbers
    return found
