"""`VideoRecord` and `Annotations`: the contents of an annotation list, with folds, classes and captions."""

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
        path: path of the video file; it may not exist.
        key: name in the shards, unique in the dataset, of the characters A-Z a-z 0-9 _ - only.
        label: class name.
        split: `train`, `val`, `test` or another name; "" if `fold_splits` is used.
        group: the source that the video was cut from; all videos of a group belong to one split.
        time_start: start of the annotated part in the source video, in seconds; None: its beginning.
        time_end: end of the annotated part, in seconds; None: the end of the video.
        fold_splits: this video's split in each fold, in the order of `Annotations.folds`; () without folds.
        captions: alternative sentences that describe the video; () without captions.
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
    """The contents of a dataset's annotation list.

    Attributes:
        records: the videos in the order of the list; at least one.
        folds: names of the folds, sorted; () if the dataset has fixed splits.
        classes: class names in the order of the official labels; () if the list defines no order.
        refused: videos in the list or folder that cannot be represented as a record, for quarantine.csv.
        notes: sentences for the user on what was left out or chosen.
    """

    records: list[VideoRecord]
    folds: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()


def group_of(path: str, key: str) -> str:
    """The source in a file name of UCF101 or Kinetics, otherwise `key`, which makes the video its own group."""
    stem = Path(path).stem
    match = _UCF101_NAME.fullmatch(stem) or _KINETICS_NAME.fullmatch(stem)
    return match[1] if match else key


def as_list(paths: PathLike | Sequence[PathLike]) -> list[PathLike]:
    """One path or several, as a list."""
    return [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)


def as_captions(value: object) -> tuple[str, ...]:
    """The captions in a JSON value or list cell: one or several, with runs of blanks collapsed; others are dropped.

    >>> as_captions([" a man  runs", "", "running"])
    ('a man runs', 'running')
    """
    several = value if isinstance(value, list | tuple) else [value]
    return tuple(text for one in several if isinstance(one, str) and (text := " ".join(one.split())))
