"""`ListFormat`: a format of annotation lists, with its reader, its detection and three lines of a list in it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.records import Annotations, PathLike, agree_on_split, as_list, normalize_split
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

    @property
    def timed_arguments(self) -> tuple[Sequence[Path], Path, str | None, bool, str | None]:
        """The arguments of a reader of labels with times, whose segments are cut out by default.

        They are: lists, folder of the videos, split, `trimmed` and `label_field`.
        """
        return self.paths, self.videos, self.split, self.options.trimmed is not False, self.options.label_field


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

    @property
    def first_object(self) -> Mapping[str, Any]:
        """The first value of a JSON list, where that is an object; {} for all other lists."""
        first = self.content[0] if isinstance(self.content, list) and self.content else None
        return first if isinstance(first, dict) else {}


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
        single_file: whether a list is one file, and several are refused.
    """

    name: str
    description: str
    example: str
    read: Callable[[ListSource], Annotations]
    matches: Callable[[ListHead], bool] = matches_nothing
    options: frozenset[str] = frozenset({"split"})
    single_file: bool = False


def find_list_files(
    lists: PathLike | Sequence[PathLike], split_by_name: Mapping[str, str], split: str | None
) -> list[tuple[Path, str]]:
    """The files of an official list with the split of each.

    Args:
        lists: files, or folders, of which all files with official names are taken.
        split_by_name: official name of a file -> split.
        split: the split of all files whose names give none; None: by their names.

    Returns:
        Path and split of each file, those of a folder in the order of the official names; at least one.

    Raises:
        AnnotationError: a folder has no such file, a file's name gives no split and `split` is None, or it gives
            another one.
    """
    split = None if split is None else normalize_split(split)
    names = ", ".join(split_by_name)
    found = []
    for item in map(Path, as_list(lists)):
        # Names as they are written: disks that ignore case would give train.csv for Train.csv too.
        present = {one.name for one in item.iterdir()} if item.is_dir() else set()
        paths = [item / name for name in split_by_name if name in present] if item.is_dir() else [item]
        if not paths:
            raise AnnotationError(f"{item}: has none of {names}; name the files of the list")
        for path in paths:
            own = split_by_name.get(path.name)
            name = split if own is None else agree_on_split(own, split, str(path), "rename the file")
            if name is None:
                raise AnnotationError(
                    f"{path}: its name gives no split, as {names} do; give the split of all its videos (--split)"
                )
            found.append((path, name))
    return found


def find_beside(path: Path, names: Sequence[str], purpose: str) -> Path:
    """The first of some files that is beside a list.

    Raises:
        AnnotationError: none is there.
    """
    found = [path.parent / name for name in names if (path.parent / name).exists()]
    if not found:
        raise AnnotationError(f"{path}: {names[0]}, {purpose}, is not beside it; put the official file there")
    return found[0]


def require_split(path: Path, split: str | None) -> str:
    """The split of all videos of a list that has none.

    Raises:
        AnnotationError: `split` is None, or no name.
    """
    if split is None:
        raise AnnotationError(
            f"{path}: the list has no splits; give the split of all its videos (--split train), or divide them "
            "(--split train=0.8,val=0.1,test=0.1, or --folds 5)"
        )
    return normalize_split(split)
