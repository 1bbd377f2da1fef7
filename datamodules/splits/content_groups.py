"""Groups of videos that belong to one split: the same source, the same bytes, or nearly the same content."""

import re
from collections.abc import Iterable, Sequence

from datamodules.annotations.video_files import VIDEO_SUFFIXES
from datamodules.leakage.split_leakage import GuardedVideo, find_near_pairs


class _UnionFind:
    """Disjoint sets of numbers from 0; a set is named by its smallest number."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, number: int) -> int:
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def join(self, first: int, second: int) -> None:
        first, second = sorted((self.find(first), self.find(second)))
        self._parent[second] = first


def merge_groups(videos: Sequence[GuardedVideo], by_content: bool) -> list[str]:
    """The group of each video, with groups joined that share content.

    Args:
        videos: The videos, whose splits have no influence.
        by_content: Join groups that have videos with the same bytes, or that show nearly the same for a while, one
            perhaps mirrored: the search of the split guard (`datamodules.leakage.near_duplicates`), here among all
            videos.

    Returns:
        Names of the groups; a joined one has the name that comes first alphabetically.
    """
    groups = [video.group or video.key for video in videos]
    if not by_content:
        return groups
    first_with: dict[str, int] = {}
    same_bytes = [(first_with.setdefault(video.content_sha256, index), index) for index, video in enumerate(videos)]
    alike = [(pair.first, pair.second) for pair in find_near_pairs(videos, within_splits=True)]
    return join_groups(groups, same_bytes + alike)


def join_groups(groups: Sequence[str], pairs: Iterable[tuple[int, int]]) -> list[str]:
    """The group of each video, after the groups of pairs of videos were joined.

    Args:
        groups: The group of each video.
        pairs: Indices of two videos that belong to one group.

    Returns:
        Names of the groups; a joined one has the name that comes first alphabetically.
    """
    names = sorted(set(groups))  # so the smallest number is the first name, whatever the order of the videos
    numbers = {name: number for number, name in enumerate(names)}
    joined = _UnionFind(len(names))
    for first, second in pairs:
        joined.join(numbers[groups[first]], numbers[groups[second]])
    return [names[joined.find(numbers[group])] for group in groups]


def group_in_path(path: str, pattern: str) -> str | None:
    """The group in the path of a video: the first parenthesized group of a regular expression, or the whole match.

    Args:
        path: Path of the video, with forward slashes.
        pattern: The regular expression, which may match anywhere in the path, without the suffix of a video file:
            `p[0-9]` is not to match in `.mp4`.

    Returns:
        The group; None where the expression does not match, or matches nothing.

    >>> group_in_path("run/anna_03.mp4", r"([a-z]+)_[0-9]+")
    'anna'
    """
    stem, dot, suffix = path.rpartition(".")
    match = re.search(pattern, stem if f"{dot}{suffix.lower()}" in VIDEO_SUFFIXES else path)
    if match is None:
        return None
    return (match[1] if match.re.groups else match[0]) or None
