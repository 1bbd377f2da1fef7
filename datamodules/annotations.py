"""Lists of labelled videos, as they are published or as people keep them, to `VideoRecord`s in the order of the list.

The official Kinetics CSV files, and a plain CSV or Parquet file with the columns path, label, and optionally group,
split or fold, and caption are read here; the text files of UCF101, HMDB51 and mmaction2 in
`datamodules.official_lists`, folders named after classes in `datamodules.class_folders`. Whether the videos exist is
not asked, except where the folders are the list: pack opens each file anyway, and reports those that are absent.
"""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from datamodules.annotation_tables import (
    EMPTY,
    AnnotationError,
    Row,
    read_header,
    read_table,
    refuse_repeats,
    split_name,
)
from datamodules.class_folders import read_class_folders
from datamodules.official_lists import detect_official, read_hmdb51, read_mmaction, read_ucf101
from datamodules.video_files import VIDEO_SUFFIXES, choose, existing_folder, join, list_by_stem, make_keys
from datamodules.video_records import Annotations, PathLike, VideoRecord, as_list, group_of

__all__ = [
    "VIDEO_SUFFIXES",
    "AnnotationError",
    "AnnotationFormat",
    "Annotations",
    "VideoRecord",
    "read_annotations",
    "read_class_folders",
    "read_csv",
    "read_hmdb51",
    "read_kinetics_csv",
    "read_mmaction",
    "read_ucf101",
]

AnnotationFormat = Literal["auto", "kinetics", "ucf101", "hmdb51", "mmaction", "folders", "csv"]

_KINETICS_COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split", "is_cc")
_CSV_COLUMNS = ("path", "label", "group", "fold", "split", "caption")


def read_annotations(
    format: AnnotationFormat,
    annotations: PathLike | Sequence[PathLike] | None = None,
    videos: PathLike | None = None,
    split: str | None = None,
    classes: PathLike | None = None,
) -> Annotations:
    """Read a list of videos in any of the forms.

    Args:
        format: `kinetics`, `ucf101`, `hmdb51`, `mmaction`, `folders`, `csv`, or `auto`: `folders` without a list, else
            by the first list's columns or name.
        annotations: file or files, for `ucf101` and `hmdb51` also their folder; for `folders` None.
        videos: folder that holds the videos; None: the folder of the (first) list.
        split: of all videos, in place of what the list says.
        classes: label map of `mmaction`: a class name a line; the other forms do not read it.

    Raises:
        AnnotationError: as the readers, or the arguments do not fit the format.
    """
    lists = [] if annotations is None else as_list(annotations)
    if format == "auto":
        format = _detect(Path(lists[0])) if lists else "folders"
    if format == "folders":
        if lists and videos is not None:
            raise AnnotationError(f"annotations={_shown(lists)}: folders are their own list; leave annotations out")
        if not lists and videos is None:
            raise AnnotationError("annotations and videos are both missing: name a list, a folder of videos, or both")
        return read_class_folders(videos if videos is not None else lists[0], split)
    if format not in get_args(AnnotationFormat):
        raise AnnotationError(f"format={format!r}: must be {', '.join(get_args(AnnotationFormat))}")
    if not lists:
        raise AnnotationError(f"annotations is missing: format {format} needs the list's file")
    first = Path(lists[0])
    root = (first if first.is_dir() else first.parent) if videos is None else videos
    if format == "kinetics":
        return read_kinetics_csv(lists, root, split)
    if format == "mmaction":
        return read_mmaction(lists, root, split, classes)
    if format in ("ucf101", "hmdb51"):
        if split is not None:
            raise AnnotationError(f"split={split!r}: the folds of {format} say each video's split; leave split out")
        return (read_ucf101 if format == "ucf101" else read_hmdb51)(lists, root)
    if len(lists) > 1:
        raise AnnotationError(f"annotations={_shown(lists)}: format csv takes one file; join them into one")
    return read_csv(lists[0], root, split)


def read_kinetics_csv(
    csv_paths: PathLike | Sequence[PathLike], videos_root: PathLike, split: str | None = None
) -> Annotations:
    """Read official Kinetics lists: label, youtube_id, time_start, time_end, split and, at will, is_cc.

    A video is the file {youtube_id}_{time_start:06d}_{time_end:06d} with any of `VIDEO_SUFFIXES`, in the videos' folder
    or up to two folders deeper ({class}/, {split}/{class}/). Where there are several, a folder named after the class
    wins (blanks may be underscores), then the split's. One without a file gets the path {class}/{name}.mp4. The youtube
    id is the group; the times are those of the list, which for such files, already cut, are not times in the file.

    Args:
        csv_paths: one list, or several, such as train and validation.
        videos_root: folder of the videos.
        split: of all videos; None: as the column says ("validate" and "validation" are read as "val").

    Raises:
        AnnotationError: a file or folder is missing, a column is unknown or missing, a value is malformed, a clip is
            listed twice, or nothing is listed.
    """
    split = None if split is None else split_name(split)
    required = ("label", "youtube_id", "time_start", "time_end", *(("split",) if split is None else ()))
    rows = [row for path in as_list(csv_paths) for row in read_table(Path(path), _KINETICS_COLUMNS, required)]
    root = existing_folder(videos_root)
    files = list_by_stem(root)
    records = []
    for row in rows:
        youtube_id, start, end = row.text("youtube_id"), row.seconds("time_start"), row.seconds("time_end")
        _check_clip(row, youtube_id, start, end)
        key, label = f"{youtube_id}_{int(start):06d}_{int(end):06d}", row.text("label")
        name = row.split() if split is None else split
        path = choose(files.get(key, ()), label, name) or f"{label}/{key}.mp4"
        records.append(VideoRecord(join(root, path), key, label, name, youtube_id, start, end))
    refuse_repeats([record.key for record in records], rows, "clip")
    return Annotations(records)


def read_csv(csv_path: PathLike, videos_root: PathLike | None = None, split: str | None = None) -> Annotations:
    """Read a plain list, CSV or Parquet: path, label, and optionally group, and split or fold.

    With folds, a video is `test` in the fold that it names and `train` in all others. Without a group each video is its
    own. Keys are made of the paths: fight/fi001.mp4 is fight_fi001. A column caption tells what is to be seen: a
    sentence, several as a JSON list of strings (in Parquet also a column of lists), or nothing.

    Args:
        csv_path: the list; one that ends in .parquet is read as such, its rows numbered from 1 as lines.
        videos_root: folder that the paths start from; None: the folder of the list.
        split: of all videos, for a list without folds; None: as the column says.

    Raises:
        AnnotationError: a file or folder is missing, a column is unknown or missing, a value is empty, a path is listed
            twice, or nothing is listed.
    """
    split = None if split is None else split_name(split)
    file = Path(csv_path)
    rows = read_table(file, _CSV_COLUMNS, ("path", "label"))
    columns = rows[0].values.keys()
    if "fold" in columns and ("split" in columns or split is not None):
        raise AnnotationError(f"{file}: has a column fold besides a split; keep only one of the two")
    if "fold" not in columns and "split" not in columns and split is None:
        raise AnnotationError(f"{file}: has neither a column split nor fold; add one, or give the split of all videos")
    root = existing_folder(file.parent if videos_root is None else videos_root)
    paths = [join(root, row.text("path")) for row in rows]
    refuse_repeats(paths, rows, "path")
    folds = sorted({row.text("fold") for row in rows}, key=_natural) if "fold" in columns else []
    if len(folds) == 1:
        raise AnnotationError(f"{file}: all videos are of fold {folds[0]!r}; folds need at least two, or use a split")
    keys = make_keys([_relative(path, root) for path in paths])
    records = []
    for row, path, key in zip(rows, paths, keys, strict=True):
        group = row.text("group") if "group" in columns else group_of(path, key)
        name = "" if folds else row.split() if split is None else split
        captions = row.captions("caption") if "caption" in columns else ()
        record = VideoRecord(path, key, row.text("label"), name, group, captions=captions)
        if folds:
            held_out = row.text("fold")
            record = replace(record, fold_splits=tuple("test" if fold == held_out else "train" for fold in folds))
        records.append(record)
    return Annotations(records, tuple(folds))


def _check_clip(row: Row, youtube_id: str, start: float, end: float) -> None:
    if re.fullmatch(r"[\w-]+", youtube_id, re.ASCII) is None:
        raise row.error("youtube_id", "must consist of letters, digits, - and _")
    for column, value in (("time_start", start), ("time_end", end)):
        if not value.is_integer():
            raise row.error(column, "must be whole seconds, as in the official lists")
    if end <= start:
        raise row.error("time_end", f"must be after time_start={row.values['time_start']}")


def _detect(file: Path) -> AnnotationFormat:
    official = detect_official(file)
    if official is not None:
        return official
    if file.is_dir():
        return "folders"
    header = read_header(file)
    if not header:
        raise AnnotationError(f"{file}: {EMPTY}")
    if "youtube_id" in header:
        return "kinetics"
    if "path" in header:
        return "csv"
    raise AnnotationError(f"{file}: has neither a column youtube_id nor path, but {header}; add a header line")


def _relative(path: str, root: Path) -> str:
    """A path below the root relative to it, any other one as it is; with forward slashes."""
    prefix = f"{os.path.normpath(root)}{os.sep}"
    return path.removeprefix(prefix).replace(os.sep, "/").lstrip("/")


def _natural(name: str) -> tuple[bool, int, str]:
    """Sorts numbers by value, before all else."""
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)


def _shown(paths: Iterable[PathLike]) -> str:
    return ", ".join(os.fspath(path) for path in paths)
