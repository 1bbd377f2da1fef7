"""Near-duplicate search: candidate pairs among hundreds of thousands of videos, in nearly linear time.

Locality-sensitive hashing: frames are put into buckets by some bits of their hashes, several times with other bits;
frames that share a bucket are compared, and then their neighbors in time. The arrays of all frames take about 30 bytes
per frame; everything else is computed in blocks.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from datamodules.leakage.perceptual_hash import FLAT, MIRROR_MASK

MAX_DISTANCE = 12  # maximum Hamming distance of matching frames, of 64 bits
MIN_MATCHES = 8  # matching frames at one time offset (one second), or all frames of a shorter video
_TABLES = 16
_MIN_BITS = 16
_MAX_NEIGHBORS = 64  # following entries of a bucket that an entry is compared with
_BLOCK = 2**18
_NEARBY = range(1, 9)  # distances in time, of which one must have another pair of similar frames

Hashes = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class FrameHashes(NamedTuple):
    """The hashes of all frames of all videos.

    Attributes:
        hashes: uint64 (F,), concatenated over the videos.
        starts: int64 (V + 1,): video v has `hashes[starts[v]:starts[v + 1]]`.
        steps_s: float64 (V,), seconds between two hashes of each video.
    """

    hashes: Hashes
    starts: Numbers
    steps_s: npt.NDArray[np.float64]

    def video_hashes(self, video: int) -> Hashes:
        """The hashes of one video."""
        return self.hashes[self.starts[video] : self.starts[video + 1]]


class _BucketEntries(NamedTuple):
    """The entries to put into buckets: frames first, then mirror images; `owners` has the video of every frame."""

    frames: npt.NDArray[np.uint32]
    num_plain: int
    owners: npt.NDArray[np.int32]


def make_frame_hashes(hashes: Sequence[Sequence[int]], durations_s: Sequence[float]) -> FrameHashes:
    """The table of videos, from the hashes of each, which are evenly spaced over its duration."""
    counts = np.array([len(video_hashes) for video_hashes in hashes], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    flat = np.fromiter(chain.from_iterable(hashes), dtype=np.uint64, count=int(starts[-1]))
    return FrameHashes(flat, starts, np.asarray(durations_s, dtype=np.float64) / np.maximum(counts, 1))


def distance(first: Hashes, second: Hashes) -> npt.NDArray[np.uint8]:
    """Hamming distance, with parallel bit counting (numpy 1 has no bit count)."""
    x = np.bitwise_xor(first, second)
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    bits: npt.NDArray[np.uint8] = ((x * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.uint8)
    return bits


def find_candidates(table: FrameHashes, sides: Numbers, conflicts: Flags) -> list[tuple[int, int, bool]]:
    """Pairs of videos on conflicting sides with two pairs of similar frames, close to each other in time.

    Args:
        table: the hashes of the videos.
        sides: int64 (V,), the side of each video.
        conflicts: bool (sides, sides), which sides are compared with each other; a side may be compared with itself.

    Returns:
        (first, second, whether the second is mirrored), first < second.
    """
    entries = _make_entries(table, sides, conflicts)
    if not len(entries.frames):
        return []
    bits = int(min(31, max(_MIN_BITS, np.ceil(np.log2(len(entries.frames))))))
    random = np.random.default_rng(0)
    codes = np.zeros(0, np.int64)
    for _ in range(_TABLES):
        ordered = _sort_by_bucket(table, entries, random.permutation(64)[:bits])
        codes_of_blocks = [_similar_pairs(block, entries, table, sides, conflicts) for block in _blocks(ordered)]
        codes = np.unique(np.concatenate([codes, *codes_of_blocks]))
    count = len(sides)
    return [(int(code // 2 // count), int(code // 2 % count), bool(code % 2)) for code in codes]


def _make_entries(table: FrameHashes, sides: Numbers, conflicts: Flags) -> _BucketEntries:
    """All frames to compare; mirrored on all sides but the largest, because mirroring one of two suffices.

    The largest side is mirrored too if its videos are compared with each other.
    """
    counts = np.diff(table.starts)
    owners = np.repeat(np.arange(len(sides), dtype=np.int32), counts)
    largest = int(np.argmax(np.bincount(sides, weights=counts)))
    compared: Flags = np.asarray(conflicts.any(axis=1))
    all_frames = np.arange(len(owners), dtype=np.uint32)
    plain = all_frames[np.repeat(compared[sides], counts) & (table.hashes != FLAT)]
    mirrored = plain if conflicts[largest, largest] else plain[(sides != largest)[owners[plain]]]
    return _BucketEntries(np.concatenate([plain, mirrored]), len(plain), owners)


def _entry_hashes(table: FrameHashes, entries: _BucketEntries, numbers: Numbers) -> Hashes:
    mask = np.where(numbers >= entries.num_plain, MIRROR_MASK, np.uint64(0))
    hashes: Hashes = table.hashes[entries.frames[numbers]] ^ mask
    return hashes


def _sort_by_bucket(table: FrameHashes, entries: _BucketEntries, bit_positions: Numbers) -> Hashes:
    """(bucket << 32 | number of the entry), sorted; a hash's bucket is its bits at the chosen positions."""
    parts = np.zeros((8, 256), np.uint64)  # bucket bits contributed by each value of each byte
    for position, bit in enumerate(bit_positions):
        values = np.arange(256, dtype=np.uint64)
        parts[bit // 8] |= ((values >> np.uint64(bit % 8)) & np.uint64(1)) << np.uint64(32 + position)
    ordered = np.arange(len(entries.frames), dtype=np.uint64)
    for start in range(0, len(ordered), _BLOCK):
        block = _entry_hashes(table, entries, np.arange(start, min(start + _BLOCK, len(ordered))))
        for byte in range(8):
            ordered[start : start + _BLOCK] |= parts[byte][(block >> np.uint64(8 * byte)) & np.uint64(255)]
    ordered.sort()
    return ordered


def _blocks(ordered: Hashes) -> Iterator[Hashes]:
    """Blocks of bounded size that end at the end of a bucket."""
    start = 0
    while start < len(ordered):
        end = min(start + _BLOCK, len(ordered))
        next_bucket = ((ordered[end - 1] >> np.uint64(32)) + np.uint64(1)) << np.uint64(32)
        end = int(np.searchsorted(ordered, next_bucket))
        yield ordered[start:end]
        start = end


def _similar_pairs(
    ordered: Hashes, entries: _BucketEntries, table: FrameHashes, sides: Numbers, conflicts: Flags
) -> Numbers:
    """Pairs of videos with similar entries in a bucket and nearby: (first * V + second) * 2 + mirrored."""
    buckets = ordered >> np.uint64(32)
    numbers = (ordered & np.uint64(0xFFFFFFFF)).astype(np.int64)
    shared = np.zeros(len(buckets), bool)
    shared[1:] = buckets[1:] == buckets[:-1]
    shared[:-1] |= shared[1:]
    buckets, numbers = buckets[shared], numbers[shared]
    mirrored = numbers >= entries.num_plain
    owners = entries.owners[entries.frames[numbers]].astype(np.int64)
    is_new = np.ones(len(numbers), bool)  # several frames of a video in one bucket count once
    is_new[1:] = (buckets[1:] != buckets[:-1]) | (owners[1:] != owners[:-1]) | (mirrored[1:] != mirrored[:-1])
    buckets, numbers, mirrored, owners = buckets[is_new], numbers[is_new], mirrored[is_new], owners[is_new]
    hashes, entry_sides = _entry_hashes(table, entries, numbers), sides[owners]
    pairs = [np.zeros(0, np.int64)]
    left = np.arange(len(numbers))
    for step in range(1, _MAX_NEIGHBORS + 1):
        left = left[left + step < len(numbers)]
        left = left[buckets[left] == buckets[left + step]]
        if not len(left):
            break
        right = left + step
        is_similar = conflicts[entry_sides[left], entry_sides[right]] & ~(mirrored[left] & mirrored[right])
        is_similar &= owners[left] != owners[right]  # a symmetric video resembles its own mirror image
        is_similar &= distance(hashes[left], hashes[right]) <= MAX_DISTANCE
        first, second = left[is_similar], right[is_similar]
        swapped = owners[first] > owners[second]
        first, second = np.where(swapped, second, first), np.where(swapped, first, second)
        either = mirrored[first] | mirrored[second]
        frames = entries.frames[numbers[first]].astype(np.int64), entries.frames[numbers[second]].astype(np.int64)
        keep = _continues(table, (owners[first], owners[second]), frames, either)
        pairs.append(((owners[first] * len(sides) + owners[second]) * 2 + either)[keep])
    return np.unique(np.concatenate(pairs))


def _continues(
    table: FrameHashes, videos: tuple[Numbers, Numbers], frames: tuple[Numbers, Numbers], mirrored: Flags
) -> Flags:
    """Whether near two similar frames there are two others: by chance, one frame in 50 of a bucket is similar."""
    (first, second), (first_frames, second_frames) = videos, frames
    mask = np.where(mirrored, MIRROR_MASK, np.uint64(0))
    ratio = table.steps_s[first] / np.maximum(table.steps_s[second], 1e-9)
    lengths = np.minimum(*(table.starts[index + 1] - table.starts[index] for index in videos))
    alike: Flags = np.asarray(lengths < MIN_MATCHES)
    last = len(table.hashes) - 1
    for frame_distance in (*_NEARBY, *(-number for number in _NEARBY)):
        left = first_frames + frame_distance
        inside = (left >= table.starts[first]) & (left < table.starts[first + 1])
        ours = table.hashes[np.clip(left, 0, last)]
        for drift in (-1, 0, 1):  # the two videos are sampled at different phases
            right = second_frames + np.rint(frame_distance * ratio).astype(np.int64) + drift
            theirs = table.hashes[np.clip(right, 0, last)]
            valid = (
                inside & (right >= table.starts[second]) & (right < table.starts[second + 1]) & (right != second_frames)
            )
            valid &= (ours != FLAT) & (theirs != FLAT)
            alike |= valid & (distance(ours, theirs ^ mask) <= MAX_DISTANCE)
    return alike
