"""What should not be on both sides of a split: groups, identical files, and videos that show the same.

Near-identical videos are found by the hashes of their frames: re-encoded, scaled, mirrored, or cut from the same source
with an overlap. Pure functions. The search does not compare all with all: `datamodules.leakage.near_duplicates` names
the few pairs that have frames alike, and only those are compared frame by frame.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from datamodules.leakage.near_duplicates import (
    MAX_DISTANCE,
    MIN_MATCHES,
    Flags,
    Hashes,
    Numbers,
    distance,
    find_candidates,
    frame_table,
)
from datamodules.leakage.perceptual_hash import FLAT, HASHES_PER_SECOND, mirror_hashes

MIN_SHARE = 0.5  # of the frames of the overlap that this offset means
_TIME_TOLERANCE_S = 1.25 / HASHES_PER_SECOND


class GuardedVideo(NamedTuple):
    """What the guard has to know about a video; `frame_hashes` are evenly spread over `duration_s` seconds."""

    key: str
    split: str
    fold_splits: tuple[str, ...]
    group: str
    content_sha256: str
    frame_hashes: tuple[int, ...]
    duration_s: float


class NearPair(NamedTuple):
    """Two videos that show the same for a while.

    Attributes:
        first: position of a video.
        second: position of another one, after the first.
        mirrored: the second is like the mirror image of the first.
        matches: frames that match.
        offset_s: the first's time less the second's, in seconds.
    """

    first: int
    second: int
    mirrored: bool
    matches: int
    offset_s: float


class Leak(NamedTuple):
    """One finding.

    Attributes:
        kind: `group`, `bytes` or `content`.
        first: key of a video.
        second: key of a video on another side.
        sides: the splits of the two, as `train | test`, for the first fold in which they differ.
        detail: what they share.
    """

    kind: str
    first: str
    second: str
    sides: str
    detail: str


def find_leaks(videos: Sequence[GuardedVideo]) -> list[Leak]:
    """All that is on both sides of a split, or of any fold.

    A group or file is reported once for each video that is on another side than its first; near-identical videos are
    reported pair by pair, unless their bytes are identical.
    """
    leaks = [
        *_repeated(videos, "group", lambda video: video.group),
        *_repeated(videos, "bytes", lambda video: video.content_sha256),
    ]
    for pair in find_near_pairs(videos, _conflicts(videos)):
        first, second = videos[pair.first], videos[pair.second]
        if first.content_sha256 != second.content_sha256:
            mirrored = "mirrored, " if pair.mirrored else ""
            detail = f"{mirrored}{pair.matches} frames alike, {pair.offset_s:+.2f} s apart"
            leaks.append(Leak("content", first.key, second.key, _sides(first, second) or "", detail))
    return leaks


def find_near_pairs(videos: Sequence[GuardedVideo], conflicts: Flags | None = None) -> list[NearPair]:
    """Pairs of videos that show the same, or one the mirror image of the other, for at least `MIN_MATCHES` frames.

    Args:
        videos: with their hashes.
        conflicts: from `_conflicts`: which pairs to look at; None: those of different splits or folds.

    Returns:
        The pairs, by positions.
    """
    sides = _side_numbers(videos)
    conflicts = _conflicts(videos) if conflicts is None else conflicts
    if not conflicts.any():
        return []
    table = frame_table([video.frame_hashes for video in videos], [video.duration_s for video in videos])
    best: dict[tuple[int, int], NearPair] = {}
    for first, second, mirrored in find_candidates(table, sides, conflicts):
        other = mirror_hashes(table.of(second)) if mirrored else table.of(second)
        durations = videos[first].duration_s, videos[second].duration_s
        matches, offset = _align(table.of(first), other, *durations)
        pair = NearPair(first, second, mirrored, matches, offset)
        if matches and matches > best.get((first, second), pair._replace(matches=0)).matches:
            best[first, second] = pair
    return [best[positions] for positions in sorted(best)]


def _align(first: Hashes, second: Hashes, first_s: float, second_s: float) -> tuple[int, float]:
    """How many frames match at the best time offset, in order, and that offset; 0 where too few do."""
    steps = first_s / len(first), second_s / len(second)
    alike = distance(first[:, None], second[None, :]) <= MAX_DISTANCE
    alike &= (first != FLAT)[:, None] & (second != FLAT)[None, :]
    i, j = np.nonzero(alike)
    if not len(i):
        return 0, 0.0
    offsets = i * steps[0] - j * steps[1]
    width = min(_TIME_TOLERANCE_S, 1.25 * min(steps))
    bins = np.floor((offsets - offsets.min()) / width).astype(np.int64)
    seen_first = np.zeros((bins.max() + 2, len(first)), bool)
    seen_second = np.zeros((bins.max() + 2, len(second)), bool)
    for shift in (0, 1):  # each offset falls into two overlapping windows
        seen_first[bins + shift, i] = True
        seen_second[bins + shift, j] = True
    matches = np.minimum(seen_first.sum(1), seen_second.sum(1))
    offset = offsets.min() + np.arange(len(matches)) * width
    overlap = np.minimum(first_s, second_s + offset) - np.maximum(0.0, offset)
    expected = overlap / max(steps)
    needed = np.minimum(MIN_MATCHES, min(len(first), len(second)))
    matches = np.where((matches >= needed) & (matches >= MIN_SHARE * expected), matches, 0)
    best = int(np.argmax(matches))
    return int(matches[best]), float(offset[best])


def _side_of(video: GuardedVideo) -> tuple[str, ...]:
    return video.fold_splits or (video.split,)


def _sides(first: GuardedVideo, second: GuardedVideo) -> str | None:
    """The splits of two videos in the first fold that divides them, or None; a split "" is unused."""
    for one, other in zip(_side_of(first), _side_of(second), strict=False):
        if one and other and one != other:
            return f"{one} | {other}"
    return None


def _side_numbers(videos: Sequence[GuardedVideo]) -> Numbers:
    numbers: dict[tuple[str, ...], int] = {}
    return np.array([numbers.setdefault(_side_of(video), len(numbers)) for video in videos], dtype=np.int64)


def _conflicts(videos: Sequence[GuardedVideo]) -> Flags:
    """Whether videos with two side numbers are ever on different sides; bool (sides, sides)."""
    examples = list({_side_of(video): video for video in videos}.values())
    return np.array([[_sides(one, other) is not None for other in examples] for one in examples], dtype=bool)


def _repeated(videos: Iterable[GuardedVideo], kind: str, value: Callable[[GuardedVideo], str]) -> Iterator[Leak]:
    """For each value, the videos that are on another side than an earlier one with it."""
    members: defaultdict[str, list[GuardedVideo]] = defaultdict(list)
    for video in videos:
        members[value(video)].append(video)
    for shared, having in members.items():
        examples: dict[tuple[str, ...], GuardedVideo] = {}
        for video in having:
            against = next((known for known in examples.values() if _sides(known, video)), None)
            if against is not None:
                yield Leak(kind, against.key, video.key, _sides(against, video) or "", f"{kind} {shared}")
            examples.setdefault(_side_of(video), video)


def count_leaks(leaks: Iterable[Leak]) -> dict[str, int]:
    """Number of findings by kind, `group`, `bytes`, `content`, without those that there are none of."""
    kinds = sorted((leak.kind for leak in leaks), key=("group", "bytes", "content").index)
    return {kind: len(list(of)) for kind, of in itertools.groupby(kinds)}
