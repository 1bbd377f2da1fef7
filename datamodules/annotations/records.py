"""`VideoRecord` and `Annotations`: what every list of videos is read into, with its folds, classes and captions."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datamodules.annotations.refusals import Refusal

PathLike = str | os.PathLike[str]

_UCF101_NAME = re.compile(r"v_(\w+_g\d+)_c\d+")  # v_ApplyEyeMakeup_g08_c01: take 1 of source video 8
_KINETICS_NAME = re.compile(r"([\w-]{11})_\d{6}_\d{6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One labelled video.

    Attributes:
        path: of the video file; it may not exist.
        key: unique in the data set, of the characters A-Z a-z 0-9 _ - alone: the name in the shards.
        label: class name.
        split: `train`, `val`, `test` or another name; "" where `fold_splits` is used.
        group: the source that the video was cut from; the videos of a group belong into one split.
        time_start: where the annotated part begins in the source video, in seconds; None: at its beginning.
        time_end: where it ends, in seconds; None: at the end.
        fold_splits: this video's split in each fold, in the order of `Annotations.folds`; () where there are none.
        captions: sentences that tell what is to be seen, any one of them; () where there are none.
    """

    path: str
    key: str
    label: str
    split: str
    group: str
    time_start: float | None = None
    time_end: float | None = None
    fold_splits: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Annotations:
    """A data set's list of videos.

    Attributes:
        records: in the order of the list; at least one.
        folds: names of the folds, sorted; () where the data has splits instead.
        classes: class names in the order of the official labels; () where the list gives no order.
        refused: videos that the list or the folder has and that no record can stand for, for quarantine.csv.
        notes: what a person should be told of the list: what was left out or chosen, a sentence each.
    """

    records: list[VideoRecord]
    folds: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()


def group_of(path: str, key: str) -> str:
    """The source that a file's name tells, as in UCF101 or Kinetics, else `key`: a group of its own."""
    stem = Path(path).stem
    match = _UCF101_NAME.fullmatch(stem) or _KINETICS_NAME.fullmatch(stem)
    return match[1] if match else key


def as_list(paths: PathLike | Sequence[PathLike]) -> list[PathLike]:
    """One path or several, as a list."""
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


def as_captions(value: object) -> tuple[str, ...]:
    """The captions in what a json or a list says: one or several, their blanks made single; others are no captions.

    >>> as_captions([" a man  runs", "", "running"])
    ('a man runs', 'running')
    """
    several = value if isinstance(value, list | tuple) else [value]
    return tuple(text for one in several if isinstance(one, str) and (text := " ".join(one.split())))
