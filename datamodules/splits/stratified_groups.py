"""Stratified division of groups: every class in the same proportions in each part, and no group in two parts.

A pure function. Groups are placed one after the other, the largest first, each where it brings the counts of its
classes closest to the proportions: the greedy assignment of scikit-learn's `StratifiedGroupKFold` (model_selection/
_split.py, `_find_best_fold`), with squared deviations from unequal proportions in place of standard deviations over
equal folds. A video of several classes counts for each of them, as in the iterative stratification of Sechidis et al.
2011 ("On the Stratification of Multi-label Data", section 3), which also treats the rarest class first; here the rarest
come first in the second step, where a class that a part lacks is given to it if it has enough groups. At the end single
groups move as long as that reduces the deviation.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

_MAX_PASSES = 8  # over all groups, in the last step; two or three suffice where groups are small
_LEAST_GAIN = 1e-12
TRAIN = "train"
UNLABELLED = ""  # the class of videos without one, which are divided like a class


class GroupedVideo(NamedTuple):
    """A video to place: its key, its group, and the names of its classes."""

    key: str
    group: str
    classes: tuple[str, ...]


def divide_groups(videos: Iterable[GroupedVideo], shares: Mapping[str, float], seed: int = 0) -> dict[str, str]:
    """Divides videos into parts, in given proportions of each class, without dividing a group.

    Each class is in every part if it has as many groups as there are parts, as far as groups of several classes allow;
    with fewer groups, it is in `train` first, where there is such a part, and then in those with the largest shares.

    Args:
        videos: The videos, in any order, which has no influence.
        shares: Fraction of the videos in each part, by name; they sum to 1.
        seed: Seed of the choice among equally good parts.

    Returns:
        The part of each video, by key.
    """
    videos = list(videos)
    placement = _Placement(videos, shares, seed)
    for group in placement.groups:
        placement.place(group)
    placement.cover_classes()
    placement.reduce_deviation()
    return {video.key: placement.part_of[video.group] for video in videos}


class _Placement:
    """Groups in parts, with the counts of each class in each part.

    Attributes:
        groups: Names of the groups, the largest first.
        part_of: The part of each placed group.
    """

    def __init__(self, videos: Sequence[GroupedVideo], shares: Mapping[str, float], seed: int) -> None:
        self._shares = shares
        self._seed = seed
        self._sizes = Counter(video.group for video in videos)
        self._classes: dict[str, dict[str, int]] = {group: {} for group in self._sizes}  # videos by group and class
        for group, name in sorted((video.group, name) for video in videos for name in video.classes or (UNLABELLED,)):
            self._classes[group][name] = self._classes[group].get(name, 0) + 1  # sorted: sums do not depend on order
        self._totals: Counter[str] = Counter()  # videos by class
        self._having: defaultdict[str, list[str]] = defaultdict(list)  # groups by class
        self.groups = sorted(self._sizes, key=lambda group: (-self._sizes[group], self._random(group)))
        for group in self.groups:
            self._totals.update(self._classes[group])
            for name in self._classes[group]:
                self._having[name].append(group)
        self._size = sum(self._sizes.values())
        self.part_of: dict[str, str] = {}
        self._counts: dict[str, Counter[str]] = {part: Counter() for part in shares}  # videos by part and class
        self._groups: dict[str, Counter[str]] = {part: Counter() for part in shares}  # groups by part and class
        self._filled: Counter[str] = Counter()
        # Of coverage: a class that is not in train cannot be learned, so train outweighs all other parts together.
        preferred = {TRAIN: 2.0, "test": 1e-6}
        self._weights = {part: share + preferred.get(part, 0.0) for part, share in shares.items()}

    def place(self, group: str) -> None:
        """Puts a group where it reduces the deviation from the proportions most."""

        def preference(part: str) -> tuple[float, float, str]:
            room = self._filled[part] / self._size - self._shares[part]
            return self._change(group, part, 1), room, self._random(f"{group}/{part}")

        self._add(group, min(self._shares, key=preference))

    def cover_classes(self) -> None:
        """Moves groups to parts that lack one of their classes: to train, then to the others; rarest class first."""
        names = sorted(self._having, key=lambda name: (len(self._having[name]), name))
        parts = sorted(self._weights, key=lambda part: -self._weights[part])
        in_train = [(name, part) for name in names for part in parts if part == TRAIN]
        for name, part in in_train + [(name, part) for name in names for part in parts if part != TRAIN]:
            if not self._groups[part][name]:
                self._cover_class(name, part)

    def _cover_class(self, name: str, part: str) -> None:
        """Moves the best group of a class to a part that lacks it, if that covers more, or a larger part.

        To train, also where another class is in fewer other parts after it: those may get another group of it later.
        """
        movable = [
            group
            for group in self._having[name]
            if (part == TRAIN or self._covers_no_less(group, part))
            and self._coverage_change(name, self.part_of[group], part) > 0
        ]
        if movable:
            best = min(movable, key=lambda group: (self._change_of_move(group, part), self._random(group)))
            self._move(best, part)

    def reduce_deviation(self) -> None:
        """Moves single groups while that reduces the deviation, and no class is in fewer or smaller parts after it."""
        for _ in range(_MAX_PASSES):
            moved = False
            for group in self.groups:
                parts = [part for part in self._shares if self._covers_no_less(group, part)]
                change, part = min((self._change_of_move(group, part), part) for part in parts)
                if change < -_LEAST_GAIN:
                    self._move(group, part)
                    moved = True
            if not moved:
                return

    def _covers_no_less(self, group: str, part: str) -> bool:
        """Whether a move leaves the coverage of no class smaller; true for the group's own part."""
        before = self.part_of[group]
        return part == before or all(self._coverage_change(name, before, part) >= 0 for name in self._classes[group])

    def _coverage_change(self, name: str, before: str, part: str) -> float:
        """Change of the sum of weights of the parts that have a class, if one of its groups moves."""
        lost = self._weights[before] if self._groups[before][name] == 1 else 0.0
        return (0.0 if self._groups[part][name] else self._weights[part]) - lost

    def _change_of_move(self, group: str, part: str) -> float:
        if part == self.part_of[group]:
            return 0.0
        return self._change(group, part, 1) + self._change(group, self.part_of[group], -1)

    def _change(self, group: str, part: str, sign: int) -> float:
        """Change of the deviation if a group comes to a part (1), or leaves it (-1).

        The deviation is the sum over parts and classes of (fraction of the class in the part - share of the part)^2;
        all videos together count as much as all classes together.
        """
        share, counts, change = self._shares[part], self._counts[part], 0.0
        for name, count in self._classes[group].items():
            total = self._totals[name]
            change += _change_of_square(counts[name] / total - share, sign * count / total)
        size = _change_of_square(self._filled[part] / self._size - share, sign * self._sizes[group] / self._size)
        return change + len(self._totals) * size

    def _move(self, group: str, part: str) -> None:
        before = self.part_of[group]
        self._counts[before].subtract(self._classes[group])
        self._groups[before].subtract(dict.fromkeys(self._classes[group], 1))
        self._filled[before] -= self._sizes[group]
        self._add(group, part)

    def _add(self, group: str, part: str) -> None:
        self.part_of[group] = part
        self._counts[part].update(self._classes[group])
        self._groups[part].update(dict.fromkeys(self._classes[group], 1))
        self._filled[part] += self._sizes[group]

    def _random(self, name: str) -> str:
        return hashlib.sha256(f"{self._seed}/{name}".encode()).hexdigest()


def _change_of_square(value: float, step: float) -> float:
    """(value + step)^2 - value^2."""
    return step * (2 * value + step)
