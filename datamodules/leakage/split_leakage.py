"""Split leakage: groups, identical files and near-identical videos on both sides of a split.

Near-identical videos (re-encoded, scaled, mirrored, or overlapping cuts of the same source) are found by the hashes of
their frames. Pure functions. Not all pairs are compared: `datamodules.leakage.near_duplicates` finds the few pairs with
similar frames, and only those are compared frame by frame.
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
    make_frame_hashes,
)
from datamodules.leakage.perceptual_hash import FLAT, HASHES_PER_SECOND, mirror_hashes

MIN_SHARE = 0.5  # fraction of the frames in the overlap at an offset that must match
_TIME_TOLERANCE_S = 1.25 / HASHES_PER_SECOND


class GuardedVideo(NamedTuple):
    """A video's data for the leakage search; `frame_hashes` are evenly spaced over `duration_s` seconds."""

    key: str
    split: str
    fold_splits: tuple[str, ...]
    group: str
    content_sha256: str
    frame_hashes: tuple[int, ...]
    duration_s: float


class NearPair(NamedTuple):
    """Two videos with the same content for some time.

    Attributes:
        first: index of a video.
        second: index of the other video, larger than `first`.
        mirrored: whether the second is similar to the mirror image of the first.
        matches: number of matching frames.
        offset_s: time in the first video minus the matching time in the second, in seconds.
    """

    first: int
    second: int
    mirrored: bool
    matches: int
    offset_s: float


class Leak(NamedTuple):
    """One case of leakage.

    Attributes:
        kind: `group`, `bytes` or `content`.
        first: key of a video.
        second: key of a video on another side.
        sides: the splits of the two, as `train | test`, in the first fold in which they differ.
        detail: description of what they share.
    """

    kind: str
    first: str
    second: str
    sides: str
    detail: str


def find_leaks(videos: Sequence[GuardedVideo]) -> list[Leak]:
    """Finds everything that is on both sides of a split, or of any fold.

    A group or file is reported once for each video on another side than its first; near-identical videos are reported
    as pairs, unless their bytes are identical.
    """
    leaks = [
        *_find_repeated(videos, "group", lambda video: video.group),
        *_find_repeated(videos, "bytes", lambda video: video.content_sha256),
    ]
    for pair in find_near_pairs(videos):
        first, second = videos[pair.first], videos[pair.second]
        if first.content_sha256 != second.content_sha256:
            mirrored = "mirrored, " if pair.mirrored else ""
            detail = f"{mirrored}{pair.matches} frames alike, {pair.offset_s:+.2f} s apart"
            leaks.append(Leak("content", first.key, second.key, _sides(first, second) or "", detail))
    return leaks


def find_near_pairs(videos: Sequence[GuardedVideo], within_splits: bool = False) -> list[NearPair]:
    """Pairs of videos that show the same, or one the mirror image of the other, for at least `MIN_MATCHES` frames.

    Which of the barely similar pairs are found depends on the order of the frames in the hash tables, and on which of
    the two is the first: the videos are therefore put in the order of their keys, so that the order in which they are
    given has no influence.

    Args:
        videos: the videos with their hashes.
        within_splits: whether all videos are compared with each other; else those of different splits or folds.

    Returns:
        The pairs, by index.
    """
    order = sorted(range(len(videos)), key=lambda index: videos[index].key)
    ordered = [videos[index] for index in order]
    if within_splits:
        ordered = [video._replace(split="", fold_splits=()) for video in ordered]
    conflicts = np.ones((1, 1), bool) if within_splits else _conflicts(ordered)
    if not conflicts.any():
        return []
    table = make_frame_hashes([video.frame_hashes for video in ordered], [video.duration_s for video in ordered])
    best: dict[tuple[int, int], NearPair] = {}
    for first, second, mirrored in find_candidates(table, _side_numbers(ordered), conflicts):
        hashes = mirror_hashes(table.video_hashes(second)) if mirrored else table.video_hashes(second)
        durations = ordered[first].duration_s, ordered[second].duration_s
        matches, offset = _align(table.video_hashes(first), hashes, *durations)
        pair = NearPair(order[first], order[second], mirrored, matches, offset)
        if pair.first > pair.second:
            pair = NearPair(order[second], order[first], mirrored, matches, -offset)
        if matches and matches > best.get(pair[:2], pair._replace(matches=0)).matches:
            best[pair[:2]] = pair
    return [best[positions] for positions in sorted(best)]


def _align(first: Hashes, second: Hashes, first_s: float, second_s: float) -> tuple[int, float]:
    """Number of matching frames at the best time offset, in order, and that offset; 0 if too few match."""
    steps = first_s / len(first), second_s / len(second)
    alike = distance(first[:, None], second[None, :]) <= MAX_DISTANCE
    alike &= (first != FLAT)[:, None] & (second != FLAT)[None, :]
    i, j = np.nonzero(alike)
    if not len(i):
        return 0, 0.0
    offsets = i * steps[0] - j * steps[1]
    width = min(_TIME_TOLERANCE_S, 1.25 * min(steps))
    bins = np.floor((offsets - offsets.min()) / width).astype(np.int64)
    matched_first = np.zeros((bins.max() + 2, len(first)), bool)
    matched_second = np.zeros((bins.max() + 2, len(second)), bool)
    for shift in (0, 1):  # each offset falls into two overlapping windows
        matched_first[bins + shift, i] = True
        matched_second[bins + shift, j] = True
    matches = np.minimum(matched_first.sum(1), matched_second.sum(1))
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
    """The splits of two videos in the first fold that separates them, or None; a split "" is unused."""
    for one, other in zip(_side_of(first), _side_of(second), strict=False):
        if one and other and one != other:
            return f"{one} | {other}"
    return None


def _side_numbers(videos: Sequence[GuardedVideo]) -> Numbers:
    numbers: dict[tuple[str, ...], int] = {}
    return np.array([numbers.setdefault(_side_of(video), len(numbers)) for video in videos], dtype=np.int64)


def _conflicts(videos: Sequence[GuardedVideo]) -> Flags:
    """Whether videos with two side numbers are on different sides in any fold; bool (sides, sides)."""
    examples = list({_side_of(video): video for video in videos}.values())
    return np.array([[_sides(one, other) is not None for other in examples] for one in examples], dtype=bool)


def _find_repeated(videos: Iterable[GuardedVideo], kind: str, value: Callable[[GuardedVideo], str]) -> Iterator[Leak]:
    """For each value, the videos on another side than an earlier video with the same value."""
    members: defaultdict[str, list[GuardedVideo]] = defaultdict(list)
    for video in videos:
        members[value(video)].append(video)
    for shared, sharing in members.items():
        examples: dict[tuple[str, ...], GuardedVideo] = {}
        for video in sharing:
            conflict = next((example for example in examples.values() if _sides(example, video)), None)
            if conflict is not None:
                yield Leak(kind, conflict.key, video.key, _sides(conflict, video) or "", f"{kind} {shared}")
            examples.setdefault(_side_of(video), video)


def count_leaks(leaks: Iterable[Leak]) -> dict[str, int]:
    """Number of findings by kind, `group`, `bytes`, `content`; kinds without findings are left out."""
    kinds = sorted((leak.kind for leak in leaks), key=("group", "bytes", "content").index)
    return {kind: len(list(group)) for kind, group in itertools.groupby(kinds)}
