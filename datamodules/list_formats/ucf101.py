"""Reader of UCF101's lists, with their three folds.

The lines of `UCF101.example` are the first three of trainlist01.txt.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from datamodules.annotations.list_format import ListFormat, ListHead
from datamodules.annotations.records import Annotations, PathLike, as_list
from datamodules.annotations.tables import AnnotationError, AnnotationRow
from datamodules.annotations.video_files import existing_folder
from datamodules.list_formats.fold_lists import find_lists, is_file_name, list_lines, make_folds

_UCF101_LIST = re.compile(r"(train|test)list0*(\d+)\.txt")
_UCF101_CLASSES = "classInd.txt"


def read_ucf101(lists: PathLike | Sequence[PathLike], videos_root: PathLike) -> Annotations:
    """Read UCF101: classInd.txt and trainlist01.txt, testlist01.txt and so on; each pair is a fold.

    The group is the source video, {class}_gNN. Classes are in the order of classInd.txt.

    Args:
        lists: the folder of the files, or some pairs of lists, with classInd.txt in their folder.
        videos_root: folder of the videos, {class}/v_{class}_gNN_cNN.avi or flat.

    Raises:
        AnnotationError: a file is missing, a line is malformed, or a video is on both sides of a fold.
    """
    list_files = find_lists(lists, _UCF101_LIST, _UCF101_CLASSES)
    if not list_files:
        raise AnnotationError(
            f"{as_list(lists)[0]}: has no trainlist01.txt, testlist01.txt and so on; name their folder"
        )
    folder = next(iter(list_files.values())).parent
    numbers = _ucf101_classes(folder / _UCF101_CLASSES)
    folds = sorted({fold for _, fold in list_files}, key=int)
    entries: dict[str, list[tuple[str, str, AnnotationRow]]] = {fold: [] for fold in folds}
    for fold in folds:
        for side in ("train", "test"):
            if (side, fold) not in list_files:
                raise AnnotationError(f"{folder}: has no {side}list{int(fold):02d}.txt; fold {fold} needs it")
            for row in list_lines(list_files[side, fold]):
                path, number = _ucf101_line(row)
                label = path.split("/")[0]
                if label not in numbers or number not in ("", numbers[label]):
                    expected = f"its number in {_UCF101_CLASSES} is {numbers.get(label, 'missing')}"
                    raise row.error("line", f"class {label!r} does not fit, {expected}; use the official files")
                entries[fold].append((path, side, row))
    return make_folds(entries, {}, existing_folder(videos_root), tuple(numbers))


def _ucf101_classes(file: Path) -> dict[str, str]:
    """Class name -> its number as text, in numerical order."""
    numbers: dict[str, str] = {}
    for row in list_lines(file):
        match = re.fullmatch(r"0*(\d+) +(\S+)", row.values["line"])
        if match is None or match[2] in numbers or int(match[1]) != len(numbers) + 1:
            raise row.error("line", f"must be {len(numbers) + 1} and the name of a class not named before")
        numbers[match[2]] = match[1]
    return numbers


def _ucf101_line(row: AnnotationRow) -> tuple[str, str]:
    match = re.fullmatch(r"([^/]+/[^/]+?)(?: +(\d+))?", row.values["line"].replace("\\", "/"))
    if match is None or not is_file_name(match[1]):
        raise row.error("line", "must be class/video and, in a trainlist, the number of the class")
    return match[1], match[2] or ""


def _matches(head: ListHead) -> bool:
    return _UCF101_CLASSES in head.names or any(map(_UCF101_LIST.fullmatch, head.names))


UCF101 = ListFormat(
    "ucf101",
    "UCF101: the folder with classInd.txt, trainlist01.txt, testlist01.txt and so on; each pair of lists is a fold. "
    "Videos: {class}/v_{class}_gNN_cNN.avi, or flat.",
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01.avi 1\n"
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c02.avi 1\n"
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c03.avi 1",
    lambda source: read_ucf101(source.paths, source.videos),
    _matches,
    options=frozenset(),
)
