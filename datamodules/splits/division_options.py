"""Options of a division of videos into splits or folds, shared by `pack` and `split`."""

import re
from dataclasses import dataclass
from typing import Any

from datamodules.options import Options
from datamodules.splits.split_file import SplitColumn

_NAME = re.compile(r"[A-Za-z0-9_-]+")
_TOLERANCE = 1e-3  # of the sum of the shares: 0.333,0.333,0.333 is meant to be everything
RESERVED = "all"  # the name of all videos together


@dataclass(frozen=True)
class Division:
    """A division of videos into parts, the splits of a dataset or its folds.

    Attributes:
        column: `split`, or `fold`: each part holds the test videos of one fold.
        shares: fraction of the videos in each part, by name, in (0, 1); they sum to 1.
        seed: seed of the choice among equally good divisions.
        group_by: regular expression that finds the group in the path of a video; None: the groups of the dataset.
        content_groups: whether videos of the same or nearly the same content are joined in one group.
    """

    column: SplitColumn
    shares: dict[str, float]
    seed: int = 0
    group_by: str | None = None
    content_groups: bool = True

    @property
    def description(self) -> str:
        """The division as one line, such as `split train=0.8,test=0.2, seed 0`."""
        shares = ",".join(f"{name}={share:g}" for name, share in self.shares.items())
        options = [f"group_by {self.group_by}"] if self.group_by is not None else []
        options += [] if self.content_groups else ["content_groups false"]
        return ", ".join([f"{self.column} {shares}", f"seed {self.seed}", *options])

    def as_dict(self) -> dict[str, Any]:
        """The division as plain data, for records."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, kw_only=True)
class DivisionOptions(Options):
    """Division into splits.

    Attributes:
        split: names of splits with their shares of the videos, such as train=0.8,val=0.1,test=0.1: each class is
            divided in these proportions, and a group is never divided. For `pack` also the name of one split: that of
            all videos. A list that gives another split is refused.
        folds: number of folds for cross-validation instead, named 0, 1, ...: each holds out an equal part of every
            class, and a group is never divided.
        group_by: regular expression that finds the group of a video in its path, without the suffix: the first
            parenthesized group, or the whole match; videos without a match are groups of their own. Default: the groups
            of the list, or of names as in UCF101 and Kinetics. `pack` refuses it beside a column group; `split`, of a
            packed dataset, takes it in place of the groups in the index.
        content_groups: whether a division also keeps videos of the same or nearly the same content together, found by
            the search of the split guard.
    """

    split: str | None = None
    folds: int | None = None
    group_by: str | None = None
    content_groups: bool = True

    def check(self) -> None:
        """Raises ValueError for options that describe no division."""
        self.require_at_least(2, "folds")
        if self.folds is not None and self.split is not None:
            raise ValueError(f"split={self.split}, folds={self.folds}: give one of the two")
        if self.split is not None and "=" in self.split:
            parse_shares(self.split)
        if self.group_by is not None:
            try:
                re.compile(self.group_by)
            except re.error as error:
                raise ValueError(
                    f"group_by={self.group_by!r}: is not a regular expression ({error}); correct it"
                ) from None

    def division(self, seed: int) -> Division | None:
        """The division that the options describe; None where `split` is absent, or the name of a single split."""
        if self.folds is not None:
            shares = {str(number): 1 / self.folds for number in range(self.folds)}
            return Division("fold", shares, seed, self.group_by, self.content_groups)
        if self.split is None or "=" not in self.split:
            return None
        return Division("split", parse_shares(self.split), seed, self.group_by, self.content_groups)


def parse_shares(text: str) -> dict[str, float]:
    """Parses the names of splits with their shares of the videos.

    Raises:
        ValueError: A part has no name or no number, a name is given twice, or the shares do not sum to 1.

    >>> parse_shares("train=0.75,test=0.25")
    {'train': 0.75, 'test': 0.25}
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = (word.strip() for word in part.partition("="))
        try:
            share = float(number)
        except ValueError:
            share = 0.0
        if not _NAME.fullmatch(name) or not 0 < share < 1:
            raise ValueError(
                f"split={text!r}: {part!r} is not a name with a share between 0 and 1, as in "
                "train=0.8,val=0.1,test=0.1; correct it"
            )
        if name == RESERVED:
            raise ValueError(f"split={text!r}: {RESERVED} is the name of all videos; choose another")
        if name in shares:
            raise ValueError(f"split={text!r}: {name} is there twice; give each split once")
        shares[name] = share
    total = sum(shares.values())
    if abs(total - 1) > _TOLERANCE:
        raise ValueError(f"split={text!r}: the shares sum to {total:g}; they must sum to 1")
    return {name: share / total for name, share in shares.items()}
