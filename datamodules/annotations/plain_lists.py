"""Reader of plain lists: CSV or Parquet files with a row for each video.

Whether the videos exist is not checked, except for names without a video suffix: `pack` opens every file anyway, and
reports missing ones.
"""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from datamodules.annotations.columns import CSV_COLUMNS, has_columns, misspellings_of
from datamodules.annotations.label_lists import unite_labels
from datamodules.annotations.list_format import MAX_FRAME_RATE
from datamodules.annotations.records import (
    ALL_VIDEOS,
    Annotations,
    PathLike,
    Task,
    VideoRecord,
    infer_group,
    normalize_split,
)
from datamodules.annotations.refusals import ADDRESS, Refusal
from datamodules.annotations.segments import check_segment_columns, make_segment_keys, read_segment_bounds
from datamodules.annotations.skipped_files import count_noun, join_first_names
from datamodules.annotations.tables import (
    AnnotationError,
    AnnotationRow,
    read_header,
    read_table,
    refuse_repeats,
)
from datamodules.annotations.video_files import (
    existing_folder,
    from_windows,
    has_video_suffix,
    join,
    make_keys,
    relative_path,
)
from datamodules.annotations.video_lookup import VideoNameIndex, VideoQuery
from datamodules.storage.plain_text import describe_trimmed_labels

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
NO_LABELS_NOTE = "has no column label, so the videos have no labels, and can train no classifier"
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def read_csv(
    csv_path: PathLike, videos_root: PathLike | None = None, split: str | None = None, multi_label: bool = False
) -> Annotations:
    """Read a plain list, CSV or Parquet: path, and optionally label or labels, group, split or fold.

    Columns may have alternative names (`datamodules.annotations.columns.CSV_COLUMNS`); unknown columns are ignored and
    listed in `notes`. With folds, a video is `test` in the fold of its row and `train` in all others. Without a group
    each video is its own. Keys are made from the paths: fight/fi001.mp4 is fight_fi001. A path without a suffix, if
    there is no such file, is the video of that name in the folder or up to two folders deeper. The column caption
    describes the video: one sentence, several as a JSON list of strings (in Parquet also a column of lists), or empty.

    With columns start and end (seconds; either may be empty), or start_frame and end_frame (the frame after the last),
    each row is a segment of its file, which may have any number of rows; the segments of a file are one group where the
    list has none (`datamodules.annotations.segments`). A path may be a folder of images; the column fps is its
    frame rate.

    With a column labels the task is `multi_label`: any number of class names, as a JSON list or separated by semicolons
    (in Parquet also a column of lists), or empty (`datamodules.annotations.label_lists`).

    Without a column label the videos have no labels, and without a column split or fold they are then of the split
    `all`.

    Args:
        csv_path: the list; a file ending in .parquet is read as Parquet, with rows numbered from 1 as lines.
        videos_root: folder that the paths are relative to; None: the folder of the list.
        split: the split of all videos, for a list without folds, where the column has no other; None: from the column.
        multi_label: whether a video may have several rows, whose labels are united: the task is then `multi_label`,
            also with a column label.

    Raises:
        AnnotationError: a file or folder is missing, a column is missing or ambiguous, a value is empty, a path is
            listed twice (with the same segment) without `multi_label`, or with other values in other columns, or
            nothing is listed.
    """
    split = None if split is None else normalize_split(split)
    file = Path(csv_path)
    has_lists = has_columns(read_header(file), CSV_COLUMNS, ("labels",))
    rows, note = read_table(file, CSV_COLUMNS, _required_columns(file, has_lists, multi_label))
    columns = rows[0].values.keys()
    if {"label", "labels"} <= columns:
        raise AnnotationError(
            f"{file}: has a column of lists of labels (labels, tags, classes or categories) besides a "
            "column label; keep only one of the two, or rename the other"
        )
    task: Task = "multi_label" if has_lists or multi_label else "single_label"
    if "fold" in columns and ("split" in columns or split is not None):
        raise AnnotationError(f"{file}: has a column fold besides a split; keep only one of the two")
    if not columns & {"label", "labels", "fold", "split"}:
        split = split or ALL_VIDEOS
    if "fold" not in columns and "split" not in columns and split is None:
        raise AnnotationError(
            f"{file}: has neither a column split nor fold; add one, give the split of all videos (--split train), or "
            "divide them (--split train=0.8,val=0.1,test=0.1, or --folds 5)"
        )
    root = existing_folder(file.parent if videos_root is None else videos_root)
    rows, refused, notes = _refuse_addresses(rows)
    names, lookup_notes = _resolve_names(rows, root)
    paths = [join(root, name) for name in names]
    check_segment_columns(file, columns)
    segments = [read_segment_bounds(row) for row in rows]
    places = [path + segment.suffix for path, segment in zip(paths, segments, strict=True)]
    if not multi_label:
        refuse_repeats(places, rows, "path", ", or give --multi-label where each has a label of the video")
    first, labels = unite_labels(rows, places, multi_label)
    rows, paths = [rows[number] for number in first], [paths[number] for number in first]
    segments = [segments[number] for number in first]
    folds = sorted({row.text("fold") for row in rows}, key=_natural_key) if "fold" in columns else []
    if len(folds) == 1:
        raise AnnotationError(f"{file}: all videos are of fold {folds[0]!r}; folds need at least two, or use a split")
    relative = {path: relative_path(path, root) for path in paths}
    file_keys = dict(zip(relative, make_keys(list(relative.values())), strict=True))
    keys = make_segment_keys(paths, [file_keys[path] for path in paths], segments)
    records = []
    for row, path, key, segment, class_names in zip(rows, paths, keys, segments, labels, strict=True):
        defect = segment.defect()
        if defect is not None:
            refused.append(Refusal(relative[path], key, *defect))
            continue
        group = row.text("group") if "group" in columns else infer_group(path, file_keys[path])
        name = "" if folds else row.split(split)
        captions = row.captions("caption") if "caption" in columns else ()
        record = VideoRecord(path, key, "", name, group, captions=captions, labels=class_names)
        if task == "single_label":
            record = replace(record, label=class_names[0] if class_names else "", labels=())
        record = replace(record, **segment.record_fields(), frames_per_second=_frame_rate(row, path))
        if folds:
            held_out = row.text("fold")
            record = replace(record, fold_splits=tuple("test" if fold == held_out else "train" for fold in folds))
        records.append(record)
    if not records:
        raise AnnotationError(f"{file}: holds no video: {refused[-1].path}: {refused[-1].detail}, as all others")
    trimmed = describe_trimmed_labels(row.values["label"] for row in rows if "label" in columns)
    one_each = f"{file}: every video has one label in labels, where any number may be: call the column label otherwise"
    notes = [one_each, *notes] if has_lists and all(len(names) == 1 for names in labels) else notes
    if not columns & {"label", "labels"}:
        notes = [f"{file}: {NO_LABELS_NOTE}", *notes]
    sentences = tuple(sentence for sentence in (note, trimmed, *notes, *lookup_notes) if sentence)
    has_groups = "group" in columns
    return Annotations(records, tuple(folds), (), tuple(refused), sentences, task, has_groups)


def _required_columns(file: Path, has_lists: bool, multi_label: bool) -> tuple[str, ...]:
    """The columns that a list must have: a label only where a column's name looks like it, misspelled."""
    needs_label = multi_label or misspellings_of("label", read_header(file), CSV_COLUMNS)
    return ("path", "label") if needs_label and not has_lists else ("path",)


def _refuse_addresses(rows: list[AnnotationRow]) -> tuple[list[AnnotationRow], list[Refusal], list[str]]:
    """The rows with local paths; a refusal for each URL, and a sentence on paths of another operating system."""
    paths = [row.text("path") for row in rows]
    local_rows = [row for row, path in zip(rows, paths, strict=True) if not _ADDRESS.match(path)]
    addresses = [path for path in paths if _ADDRESS.match(path)]
    if not local_rows:
        raise rows[0].error("path", "is an address, as all others are; download the videos and list the files")
    detail = "is an address, and is not fetched: download the video and list the file"
    refused = [Refusal(path, key, ADDRESS, detail) for path, key in zip(addresses, make_keys(addresses), strict=True)]
    drives = [path for path in paths if _DRIVE.match(path)]
    note = f"{count_noun(len(drives), 'path')} with the drive of another system, such as {join_first_names(drives, 1)}"
    return local_rows, refused, [note] if drives else []


def _resolve_names(rows: Sequence[AnnotationRow], root: Path) -> tuple[list[str], list[str]]:
    """The paths of the rows, with suffixes of found files added; and a sentence on each choice among several."""
    names = [from_windows(root, row.text("path")) for row in rows]
    incomplete = [
        position for position, name in enumerate(names) if not has_video_suffix(name) and not (root / name).exists()
    ]
    if not incomplete:
        return names, []
    files = VideoNameIndex(root)
    parts = [os.path.split(os.path.normpath(names[position])) for position in incomplete]
    queries = [
        VideoQuery(name, rows[position].values.get("label", "").strip(), folder=folder)
        for position, (folder, name) in zip(incomplete, parts, strict=True)
    ]
    found_paths = files.find(queries)
    for position, path in zip(incomplete, found_paths, strict=True):
        names[position] = path or names[position]
    return names, files.notes()


def _frame_rate(row: AnnotationRow, path: str) -> float | None:
    """The rate in the column fps, for folders of images; video files have their own."""
    value = row.values.get("fps", "").strip()
    if not value or not os.path.isdir(path):  # noqa: PTH112, faster than Path
        return None
    try:
        rate = float(value)
    except ValueError:
        rate = math.nan
    if not 0 < rate <= MAX_FRAME_RATE:
        raise row.error("fps", f"must be above 0 and at most {MAX_FRAME_RATE} frames per second, or empty")
    return rate


def _natural_key(name: str) -> tuple[bool, int, str]:
    """Sort key that sorts numbers by value, before all other names."""
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)
