"""`VideoRecord` and `Annotations`: the contents of an annotation list; names of splits and groups."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.refusals import Refusal

PathLike = str | os.PathLike[str]
# What the labels of a dataset are: one class for each video (or none, -1 in the index), or any number of classes.
Task = Literal["single_label", "multi_label"]

ALL_VIDEOS = "all"  # the split of videos that are not divided
# Other spellings of the three, in lower case. `eval` is not included: it is the test split of some data sets, and the
# val split of others.
SPLIT_NAMES = {
    **{name: name for name in ("train", "val", "test")},
    **dict.fromkeys(("training", "trn"), "train"),
    **dict.fromkeys(("validate", "validation", "valid", "validating", "dev", "development"), "val"),
    **dict.fromkeys(("testing", "tst"), "test"),
}

_UCF101_NAME = re.compile(r"v_(\w+_g\d+)_c\d+")  # v_ApplyEyeMakeup_g08_c01: take 1 of source video 8
_KINETICS_NAME = re.compile(r"([\w-]{11})_\d{6}_\d{6}", re.ASCII)


# Label, start and end of each labelled part of a video, in seconds from its first frame.
Timeline = tuple[tuple[str, float, float], ...]


class TimelineLabel(NamedTuple):
    """A label of a part of a video that stays whole; bounds as in `datamodules.annotations.segments.Segment`."""

    label: str
    start: float | None = None
    end: float | None = None
    start_frame: int | None = None
    end_frame: int | None = None


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """One video of a dataset: a whole file, or a segment of one.

    Attributes:
        path: path of the video file, or of a folder of images; it may not exist.
        key: name in the shards, unique in the dataset, of the characters A-Z a-z 0-9 _ - only.
        label: class name; "" for a video without a label, and for one with several.
        split: `train`, `val`, `test` or another name; "" if `fold_splits` is used.
        group: the source that the video was cut from; all videos of a group belong to one split.
        time_start: start of the annotated part in the source video, in seconds; None: its beginning.
        time_end: end of the annotated part, in seconds; None: the end of the video.
        start_frame: number of the first frame of the annotated part, from 0, in place of `time_start`.
        end_frame: number of the frame after its last one, in place of `time_end`.
        exact_times: whether the annotated part is a segment of this very file, and is cut out of it; False: the times
            are those of the original, from which the file may have been cut already, as in Kinetics.
        frames_per_second: frame rate of a folder of images; None for video files.
        fold_splits: this video's split in each fold, in the order of `Annotations.folds`; () without folds.
        captions: alternative sentences that describe the video; () without captions.
        labels: class names of a video in a dataset of several labels, without repetitions; () in other datasets, and
            for a video that shows none of the classes.
        timeline: labels of the parts of a whole file, in a dataset of labels by time; None in other datasets.
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
    labels: tuple[str, ...] = ()
    start_frame: int | None = None
    end_frame: int | None = None
    exact_times: bool = False
    frames_per_second: float | None = None
    timeline: tuple[TimelineLabel, ...] | None = None

    @property
    def is_segment(self) -> bool:
        """Whether the video is cut out of its file, or is a part of its folder of images."""
        return self.exact_times or self.start_frame is not None or self.end_frame is not None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of the video: none, one or several."""
        if self.timeline is not None:
            return distinct_labels(self.timeline)
        return self.labels or ((self.label,) if self.label else ())


@dataclass(frozen=True, slots=True)
class Annotations:
    """The contents of a dataset's annotation list.

    Attributes:
        records: the videos in the order of the list; at least one.
        folds: names of the folds, sorted; () if the dataset has fixed splits.
        classes: class names in the order of the official labels; () if the list defines no order.
        refused: videos in the list or folder that cannot be represented as a record, for quarantine.csv.
        notes: sentences for the user on what was left out or chosen.
        task: `single_label`, also without labels; or `multi_label`, where `VideoRecord.labels` counts.
        has_groups: whether the list has a column of groups, rather than names or files from which they are inferred.
    """

    records: list[VideoRecord]
    folds: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    task: Task = "single_label"
    has_groups: bool = False


def distinct_labels(timeline: Sequence[TimelineLabel] | Timeline) -> tuple[str, ...]:
    """The labels of the parts of a video, each once, in the order of their first parts."""
    return tuple(dict.fromkeys(part[0] for part in timeline))


def normalize_split(name: str, location: str = "") -> str:
    """The name of a split, "val" for its other spellings; raises AnnotationError if it cannot be in file names."""
    if re.fullmatch(r"\w+", name, re.ASCII) is None:
        raise AnnotationError(f"{location}split={name!r}: must be a word of letters, digits and _")
    return split_synonym(name)


def agree_on_split(own: str, given: str | None, location: str, remedy: str) -> str:
    """The split of a video that the list gives a split, where a user gives one of all videos too.

    Args:
        own: the split in the list, under its standard name.
        given: the user's split of all videos, `all` where the videos are to be divided; None: none.
        location: file and line, for the message.
        remedy: how to take the split out of the list, such as `remove the column split`.

    Raises:
        AnnotationError: the two differ: official test videos would get into training.
    """
    if given is not None and given != own:
        option = "--split or --folds" if given == ALL_VIDEOS else f"--split {given}"
        raise AnnotationError(
            f"{location}: the list gives the split {own!r}, which {option} would replace; leave the option out "
            f"(`python -m pipeline split` divides a packed dataset anew), or {remedy}"
        )
    return own


def split_synonym(name: str) -> str:
    """train, val or test for their other spellings, in any case; other names unchanged.

    >>> split_synonym("Validation"), split_synonym("TEST"), split_synonym("Extra")
    ('val', 'test', 'Extra')
    """
    return SPLIT_NAMES.get(name.lower(), name)


def infer_group(path: str, key: str) -> str:
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
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(text for item in values if isinstance(item, str) and (text := " ".join(item.split())))
