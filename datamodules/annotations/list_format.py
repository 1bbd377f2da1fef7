"""`ListFormat`: a format of annotation lists, with its reader, its detection and three lines of a list in it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.annotations.records import Annotations
from datamodules.options import Options

OPTIONS_OF_ALL_FORMATS = frozenset({"frames_per_second"})  # any list may name folders of images
MAX_FRAME_RATE = 1000  # as of encoded videos


@dataclass(frozen=True, kw_only=True)
class ListOptions(Options):
    """How annotation lists are read.

    Attributes:
        trimmed: for lists of labels with times: true: each labelled segment is cut out and is one video of the dataset;
            false: videos stay whole, with the labels of all their segments, as a multi-label dataset. Default: false
            for charades, true for the other formats.
        label_field: which of several labels of a segment is its class. epic_kitchens: verb, noun or action (the
            default, a pair of both); label_studio: name of the TimelineLabels control; via3: name of the attribute.
        annotation_fps: frames per second at which label_studio counted frames, the `frameRate` of the Video tag in the
            labelling configuration. Default: 24, as in Label Studio.
        frames_per_second: rate of videos that are folders of images (JPEG, PNG, WebP), where the list gives none; with
            class folders, such folders are videos only with this option.
        multi_label: csv: a video may have several lines, each with a further label; a list with a column labels needs
            no such option.
    """

    trimmed: bool | None = None
    label_field: str | None = None
    annotation_fps: float | None = None
    frames_per_second: float | None = None
    multi_label: bool = False

    def check(self) -> None:
        """Refuses frame rates that are not positive and finite."""
        for name in ("annotation_fps", "frames_per_second"):
            rate = getattr(self, name)
            if rate is not None and not (math.isfinite(rate) and 0 < rate <= MAX_FRAME_RATE):
                raise ValueError(f"{name}={rate}: must be above 0 and at most {MAX_FRAME_RATE} frames per second")


@dataclass(frozen=True, slots=True)
class ListSource:
    """The arguments of a reader.

    Attributes:
        paths: files of the list, or folders of such files; at least one.
        videos: folder of the videos.
        split: the split of all videos; None: the list gives it.
        label_map: text file of class names, one a line; None without.
        options: how the list is read.
    """

    paths: Sequence[Path]
    videos: Path
    split: str | None = None
    label_map: Path | None = None
    options: ListOptions = ListOptions()


class ListHead(NamedTuple):
    """What formats are detected by.

    Attributes:
        path: the list, or a folder of lists.
        names: names of the files in the folder; for a file, its own name.
        header: values of the first line of a table; [] for a folder and for JSON.
        content: the value in a JSON file; None for other lists.
    """

    path: Path
    names: Sequence[str]
    header: Sequence[str]
    content: Any


def matches_nothing(head: ListHead) -> bool:
    """Detection of a format that no list shows by itself; False."""
    return False


@dataclass(frozen=True, slots=True)
class ListFormat:
    """A format of annotation lists.

    Attributes:
        name: value of `--format`.
        description: the data set or tool, its files and where its videos are, in one or two sentences.
        example: three lines of a list in this format.
        read: the reader.
        matches: whether a list is of this format, without a doubt.
        options: which of `split` and the fields of `ListOptions` the format has; others are refused.
    """

    name: str
    description: str
    example: str
    read: Callable[[ListSource], Annotations]
    matches: Callable[[ListHead], bool] = matches_nothing
    options: frozenset[str] = frozenset({"split"})
