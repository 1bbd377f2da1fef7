"""Reader of Moments in Time's lists: rows of file name, class and the annotators' responses.

The form was verified with the data set's own README.txt and mmaction2's `parse_mit_splits`; the first line of
`MOMENTS_IN_TIME.example` is true, the file name of the second too, the third has the same form.
"""

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from datamodules.annotations.list_format import ListFormat, ListHead, find_list_files
from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.records import Annotations, PathLike, VideoRecord
from datamodules.annotations.tables import AnnotationRow, read_lines, refuse_repeats
from datamodules.annotations.video_files import existing_folder, from_windows, join, make_keys

_FILES = {"trainingSet.csv": "train", "validationSet.csv": "val"}
_FOLDERS = {"trainingSet.csv": "training", "validationSet.csv": "validation"}
_CATEGORIES = "moments_categories.txt"
_CLIP_NAME = re.compile(r"(.+)_\d+")  # {source video}_{n}


def read_moments_in_time(
    lists: PathLike | Sequence[PathLike], videos_root: PathLike, split: str | None = None
) -> Annotations:
    """Read Moments in Time, any version with one class a video.

    A file is one clip of three seconds. Classes are in the order of moments_categories.txt, lines `name,number`, if it
    is beside the lists. The group is the beginning of the file name, without the number at its end.

    Args:
        lists: the files, or their folder.
        videos_root: folder of the folders training and validation; in another layout, the folder that the file names in
            the list are relative to.
        split: the split of all videos; None: by the file's name (trainingSet, validationSet).

    Raises:
        AnnotationError: a file is missing, a row is malformed, a class is not in moments_categories.txt, or a file is
            listed twice.
    """
    files = find_list_files(lists, _FILES, split)
    classes = _read_classes(files[0][0].parent / _CATEGORIES)
    root = existing_folder(videos_root)
    rows, paths, splits = [], [], []
    for path, name in files:
        folder = root / _FOLDERS.get(path.name, "")
        folder = folder if folder.is_dir() else root
        for row in _read_rows(path, classes):
            rows.append(row)
            paths.append(join(folder, from_windows(folder, row.values["filename"])))
            splits.append(name)
    names = [row.values["filename"] for row in rows]
    refuse_repeats(names, rows, "video")
    records = [
        VideoRecord(path, key, row.values["label"], name, _group(path))
        for row, path, name, key in zip(rows, paths, splits, make_keys(names), strict=True)
    ]
    return Annotations(records, classes=tuple(classes))


def _group(video: str) -> str:
    stem = Path(video).stem
    match = _CLIP_NAME.fullmatch(stem)
    return match[1] if match else stem


def _read_rows(path: Path, classes: Sequence[str]) -> list[AnnotationRow]:
    rows, known = [], frozenset(classes)
    for number, line in read_lines(path):
        cells = [cell.strip() for cell in next(csv.reader([line]))]
        if len(cells) < 2 or not all(cells[:2]):
            raise AnnotationError(f"{path}, line {number}: {line!r}: must be a file name, its class and two counts")
        row = AnnotationRow(str(path), number, {"filename": cells[0], "label": cells[1]})
        row.text("filename")
        if known and row.text("label") not in known:
            raise row.error("label", f"is not in {_CATEGORIES}; lists of several class numbers a video are not read")
        rows.append(row)
    return rows


def _read_classes(path: Path) -> list[str]:
    """Class names in the official order; [] without the file."""
    if not path.exists():
        return []
    names: dict[int, str] = {}
    for number, line in read_lines(path):
        name, _, place = line.rpartition(",")
        if not name or not place.strip().isdecimal() or int(place) in names:
            raise AnnotationError(f"{path}, line {number}: {line!r}: must be the name of a class and its own number")
        names[int(place)] = name.strip()
    return [names[place] for place in sorted(names)]


def _matches(head: ListHead) -> bool:
    return any(name in _FOLDERS for name in head.names)


MOMENTS_IN_TIME = ListFormat(
    "moments_in_time",
    "Moments in Time: trainingSet.csv and validationSet.csv, or their folder, with moments_categories.txt beside them. "
    "Videos: training/{filename} and validation/{filename}.",
    "blocking/getty-karate-video-id635808620_4.mp4,blocking,3,0\n"
    "dancing/yt-5of6ffo6-Bw_205.mp4,dancing,3,0\n"
    "clapping/flickr-2-4-1-5-0-1-1-7-22241501117_1.mp4,clapping,4,1",
    lambda source: read_moments_in_time(source.paths, source.videos, source.split),
    _matches,
)
