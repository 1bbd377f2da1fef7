"""Division of the videos of a dataset, from their sources, content and classes, and how even it became."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property

from datamodules.leakage.split_leakage import GuardedVideo, find_near_pairs
from datamodules.splits.content_groups import join_groups, merge_groups
from datamodules.splits.division_options import Division
from datamodules.splits.split_file import SplitFile
from datamodules.splits.stratified_groups import UNLABELLED, GroupedVideo, divide_groups

_SHOWN = 5  # classes or groups in a sentence
_UNEVEN = 0.05  # difference from the share that is mentioned, if it is more than one video
_LARGE = 0.2  # share of all videos of a group joined by content that is mentioned


class DividedVideos:
    """A division of videos into splits or folds.

    Args:
        videos: The videos, with the groups of their sources; their splits have no influence.
        classes: Class names of each video.
        division: How they are divided.

    Attributes:
        division: How they were divided.
        values: The split or fold of each video, by key.
        groups: The group of each video that was not divided, by key.
        joined_groups: Number of groups of sources that were joined with others, because they show the same.

    Raises:
        ValueError: There are fewer groups than parts.
    """

    def __init__(self, videos: Sequence[GuardedVideo], classes: Sequence[Sequence[str]], division: Division) -> None:
        self.division = division
        self._classes = {
            video.key: tuple(of_video) or (UNLABELLED,) for video, of_video in zip(videos, classes, strict=True)
        }
        groups = merge_groups(videos, division.content_groups)
        self.values = self._divide(videos, groups)
        while division.content_groups and (pairs := self._pairs_across_parts(videos)):
            groups = join_groups(groups, pairs)
            self.values = self._divide(videos, groups)
        self.groups = {video.key: group for video, group in zip(videos, groups, strict=True)}
        sources: defaultdict[str, set[str]] = defaultdict(set)
        for video, group in zip(videos, groups, strict=True):
            sources[group].add(video.group or video.key)
        self._joined = {group: len(of_group) for group, of_group in sources.items() if len(of_group) > 1}
        self.joined_groups = sum(self._joined.values())

    def _divide(self, videos: Sequence[GuardedVideo], groups: Sequence[str]) -> dict[str, str]:
        """The part of each video, by key."""
        division = self.division
        if len(set(groups)) < len(division.shares):
            raise ValueError(
                f"{division.description}: {len(division.shares)} {division.column}s need as many groups, and the "
                f"{len(videos)} videos are of {len(set(groups))}: give fewer {division.column}s, or smaller groups "
                "(--group-by, --content-groups false)"
            )
        grouped = [
            GroupedVideo(video.key, group, self._classes[video.key])
            for video, group in zip(videos, groups, strict=True)
        ]
        return divide_groups(grouped, division.shares, division.seed)

    def _pairs_across_parts(self, videos: Sequence[GuardedVideo]) -> list[tuple[int, int]]:
        """Indices of videos in different parts that the split guard would warn of.

        The search among all videos compares more frames, by other bits, than the guard's among those of different
        parts, so that either may find a pair that the other misses.
        """
        divided = [video._replace(split=self.values[video.key], fold_splits=()) for video in videos]
        return [(pair.first, pair.second) for pair in find_near_pairs(divided)]

    def as_split_file(self, name: str) -> SplitFile:
        """The division as the contents of a split file of this name."""
        return SplitFile(name, name, self.division.column, self.values, self.groups)

    @cached_property
    def counts(self) -> dict[str, Counter[str]]:
        """Videos of each part by class, the most frequent class first; `UNLABELLED` for videos without a class."""
        counts: dict[str, Counter[str]] = {}
        totals = Counter(name for of_video in self._classes.values() for name in of_video)
        for name, _ in sorted(totals.items(), key=lambda item: (-item[1], item[0])):
            counts[name] = Counter()
        for key, of_video in self._classes.items():
            for name in of_video:
                counts[name][self.values[key]] += 1
        return counts

    @cached_property
    def groups_of_class(self) -> Counter[str]:
        """Number of groups of each class."""
        return Counter(
            name for name, _ in {(name, self.groups[key]) for key, of in self._classes.items() for name in of}
        )

    def describe_imbalance(self) -> list[str]:
        """Sentences on what could not be balanced: classes missing in a part, uneven classes, large joined groups."""
        missing: defaultdict[str, list[str]] = defaultdict(list)
        uneven: list[str] = []
        for name, counts in self.counts.items():
            shown = repr(name) if name else "videos without a class"
            absent = [self.part_name(part) for part in self.division.shares if not counts[part]]
            if absent:
                missing[", ".join(absent)].append(f"{shown} ({_count(self.groups_of_class[name], 'group')})")
            elif difference := self._largest_difference(counts):
                uneven.append(f"{shown} {difference}")
        sentences = [
            f"too few groups: no video in {absent} of {_join_first(names)}" for absent, names in missing.items()
        ]
        if uneven:
            sentences.append(f"uneven, because groups are not divided: {_join_first(uneven, '; ')}")
        return sentences + self._describe_large_groups()

    def part_name(self, part: str) -> str:
        """The part in a sentence or heading: `train`, or `fold 0`."""
        return f"fold {part}" if self.division.column == "fold" else part

    def _largest_difference(self, counts: Counter[str]) -> str:
        """Describes the part where a class differs most from its share; "" where that is a video or a few percent."""
        total = counts.total()
        differences = [(abs(counts[part] - share * total), part) for part, share in self.division.shares.items()]
        difference, part = max(differences)
        if difference <= max(1, _UNEVEN * total):
            return ""
        return f"{counts[part]} of {total} in {self.part_name(part)}, not {self.division.shares[part] * total:.1f}"

    def _describe_large_groups(self) -> list[str]:
        sizes = Counter(self.groups.values())
        large = [
            group for group, size in sizes.most_common(1) if group in self._joined and size > _LARGE * sizes.total()
        ]
        return [
            f"{sizes[group]} of {sizes.total()} videos are one group, that of {group}, as their frames show "
            "nearly the same; if the videos do not, divide with --content-groups false"
            for group in large
        ]


def _join_first(items: Sequence[str], separator: str = ", ") -> str:
    return separator.join(items[:_SHOWN]) + (f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
