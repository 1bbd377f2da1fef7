"""Reader of Jester V1's lists: lines `id;class`, or the tables of its copies; a folder of images for each video.

The form was verified with mmaction2's `parse_jester_splits` and a public copy of jester-v1-labels.csv; the first line
of `JESTER.example` is that of the official training list, the two others have the same form. That the frames were
extracted at 12 frames per second is commonly stated, and is in no file of the data set. The tables are those of the
copy on Kaggle (toxicmender/20bn-jester), verified with public copies of Train.csv and Test.csv and two loaders.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from datamodules.annotations.list_format import ListFormat, ListHead, find_list_files
from datamodules.annotations.records import Annotations, PathLike, VideoRecord
from datamodules.annotations.skipped_files import count_noun
from datamodules.annotations.tables import AnnotationRow, read_header, read_lines, read_table, refuse_repeats
from datamodules.annotations.video_files import existing_folder, join, make_keys
from datamodules.annotations.video_lookup import VideoNameIndex, VideoQuery

FRAMES_PER_SECOND = 12.0
_PREFIX = "jester-v1-"  # of the first release
_NAMES = {"train.csv": "train", "validation.csv": "val", "test.csv": "test", "test-answers.csv": "test"}
_TABLES = {"Train.csv": "train", "Validation.csv": "val", "Test.csv": "test"}
_FILES = _NAMES | {f"{_PREFIX}{name}": split for name, split in _NAMES.items()} | _TABLES
_COLUMNS = {"video": ("video_id", "id"), "label": (), "label_id": (), "frames": (), "shape": (), "format": ()}
_LABELS = ("labels.csv", f"{_PREFIX}labels.csv")
_FOLDER = "20bn-jester-v1"


def read_jester(
    lists: PathLike | Sequence[PathLike],
    videos_root: PathLike,
    split: str | None = None,
    frames_per_second: float = FRAMES_PER_SECOND,
) -> Annotations:
    """Read Jester V1.

    Classes are in the order of jester-v1-labels.csv (or labels.csv), if it is beside the lists, else in that of the
    alphabet, as in the tables' `label_id`. test.csv, lines of an id alone, has no classes: its videos have no label,
    unless test-answers.csv is read in its place. Groups are the videos, as the lists do not name the people in them.

    Args:
        lists: the files, or their folder; with test-answers.csv in the folder, test.csv is not read. Train.csv,
            Validation.csv and Test.csv are tables with the columns video_id (or id) and label.
        videos_root: the folder 20bn-jester-v1 or the one above it, with a folder {id} of images, or a video file of
            that name, for each video; or the folder above Train, Validation and Test, which have those of each list.
        split: the split of all videos; None: by the file's name (train, validation, test).
        frames_per_second: rate of the folders of images.

    Raises:
        AnnotationError: a file is missing, a line is malformed, a class is not in the list of labels, or a video is
            listed twice.
    """
    files = find_list_files(lists, _FILES, split)
    if any(path.name.endswith("test-answers.csv") for path, _ in files):
        files = [(path, name) for path, name in files if not path.name.endswith("test.csv")]
    classes = _read_classes(files[0][0].parent)
    lists_of_rows = [_read_rows(path, classes) for path, _ in files]
    rows = [row for of_list in lists_of_rows for row in of_list]
    ids = [row.values["video"] for row in rows]
    refuse_repeats(ids, rows, "video")
    root = existing_folder(videos_root)
    found = [
        place for (path, _), of_list in zip(files, lists_of_rows, strict=True) for place in _find(root, path, of_list)
    ]
    splits = [name for (_, name), of_list in zip(files, lists_of_rows, strict=True) for _ in of_list]
    records = [
        VideoRecord(
            place,
            key,
            row.values["label"],
            split,
            key,
            frames_per_second=None if is_file else frames_per_second,
        )
        for row, (place, is_file), split, key in zip(rows, found, splits, make_keys(ids), strict=True)
    ]
    unlabelled = sum(not record.label for record in records)
    note = f"{count_noun(unlabelled, 'video')} of a list without classes packed without a label"
    return Annotations(records, classes=tuple(classes), notes=(note,) if unlabelled else ())


def _find(root: Path, path: Path, rows: Sequence[AnnotationRow]) -> list[tuple[str, bool]]:
    """The place of each video of a list, and whether it is a video file; else it is a folder of images."""
    folder = next((root / name for name in (_FOLDER, path.stem) if (root / name).is_dir()), root)
    ids = [row.values["video"] for row in rows]
    files = VideoNameIndex(folder, depth=0).find([VideoQuery(video, "") for video in ids])
    return [(join(folder, file or video), file is not None) for file, video in zip(files, ids, strict=True)]


def _read_classes(folder: Path) -> list[str]:
    """Class names in the official order; [] without the file."""
    found = [folder / name for name in _LABELS if (folder / name).exists()]
    return [line for _, line in read_lines(found[0])] if found else []


def _read_rows(path: Path, classes: Sequence[str]) -> list[AnnotationRow]:
    """The rows of a list, with the columns video and label, which is empty in lists without classes."""
    rows = _read_table_rows(path) if _is_table(read_header(path)) else _read_lines(path)
    for row in rows:
        if re.fullmatch(r"\d+", row.values["video"], re.ASCII) is None:
            fix = "must be the number of a video; its class follows after a semicolon, or in the column label"
            raise row.error("video", fix)
        if row.values["label"] and classes and row.values["label"] not in classes:
            raise row.error("label", "is not in the list of labels beside the list; use the official files")
    missing = [row for row in rows if not row.values["label"]]
    if missing and len(missing) < len(rows):
        raise missing[0].error("label", "is empty, while other lines have a class; give every video one")
    return rows


def _read_lines(path: Path) -> list[AnnotationRow]:
    rows = []
    for number, line in read_lines(path):
        video, _, label = (part.strip() for part in line.partition(";"))
        rows.append(AnnotationRow(str(path), number, {"video": video, "label": label}))
    return rows


def _read_table_rows(path: Path) -> list[AnnotationRow]:
    rows = read_table(path, _COLUMNS, ("video", "label")).rows
    return [row._replace(values={name: row.values[name].strip() for name in ("video", "label")}) for row in rows]


def _is_table(header: Sequence[str]) -> bool:
    return "label" in header and not {"video_id", "id"}.isdisjoint(header)


def _is_official_table(header: Sequence[str]) -> bool:
    return _is_table(header) and set(_COLUMNS) - {"video"} <= set(header)


def _matches(head: ListHead) -> bool:
    tables = [head.path / name for name in _TABLES if head.path.is_dir() and name in head.names]
    if any(_is_official_table(header) for header in (head.header, *map(read_header, tables))):
        return True
    return any(name.startswith(_PREFIX) and name.removeprefix(_PREFIX) in (*_NAMES, *_LABELS) for name in head.names)


JESTER = ListFormat(
    "jester",
    "Jester V1: train.csv, validation.csv and test.csv (or test-answers.csv), or their folder, with labels.csv beside "
    "them, or with the prefix jester-v1-; or the tables Train.csv, Validation.csv and Test.csv of copies. Videos: "
    "folders of images, {id}/00001.jpg and so on, for tables in Train, Validation and Test, at 12 frames a second.",
    "34870;Drumming Fingers\n56557;Sliding Two Fingers Right\n129112;Sliding Two Fingers Down",
    lambda source: read_jester(
        source.paths, source.videos, source.split, source.options.frames_per_second or FRAMES_PER_SECOND
    ),
    _matches,
)
