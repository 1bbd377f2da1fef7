"""Groups of videos that belong to one split: the same source, the same bytes, or nearly the same content."""

import re
from collections.abc import Sequence

import numpy as np

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
    names = sorted(set(groups))  # so the smallest number is the first name, whatever the order of the videos
    numbers = {name: number for number, name in enumerate(names)}
    joined = _UnionFind(len(names))
    first_with: dict[str, int] = {}
    for video, group in zip(videos, groups, strict=True):
        joined.join(numbers[group], first_with.setdefault(video.content_sha256, numbers[group]))
    for pair in find_near_pairs([video._replace(split="", fold_splits=()) for video in videos], np.ones((1, 1), bool)):
        joined.join(numbers[groups[pair.first]], numbers[groups[pair.second]])
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
