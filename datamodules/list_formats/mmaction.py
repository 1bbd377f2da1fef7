"""Reader of mmaction2's lists of videos and of raw frames: lines of a path and a class number.

The lines of `MMACTION.example` have the form of kinetics400_train_list_videos.txt.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from datamodules.annotations.columns import CSV_COLUMNS, has_columns
from datamodules.annotations.list_format import ListFormat, ListHead
from datamodules.annotations.records import (
    Annotations,
    PathLike,
    VideoRecord,
    agree_on_split,
    as_list,
    infer_group,
    normalize_split,
)
from datamodules.annotations.tables import (
    AnnotationError,
    AnnotationRow,
    read_lines,
    refuse_repeats,
)
from datamodules.annotations.video_files import existing_folder, from_windows, has_video_suffix, join, make_keys
from datamodules.list_formats.fold_lists import is_file_name, list_lines

_MMACTION_SPLIT = re.compile(r"(?:^|[_-])(train|val|test)(?:[_-]|$)")
_MMACTION_LINE = re.compile(r"(.+) \d+")


def read_mmaction(
    lists: PathLike | Sequence[PathLike],
    videos_root: PathLike,
    split: str | None = None,
    label_map: PathLike | None = None,
) -> Annotations:
    """Read mmaction2's lists of videos, lines "path label", or raw frames, lines "folder number_of_frames label".

    Labels are numbers from 0. The number of frames is not read.

    Args:
        lists: one list, or several; each file's name gives its split, as in kinetics400_train_list_videos.txt.
        videos_root: folder that the paths are relative to.
        split: the split of all videos; None: from the files' names.
        label_map: file with one class name per line, line n naming label n - 1; None: the video's folder is its class.

    Raises:
        AnnotationError: a file is missing, its name gives no split, a line is malformed, a label is not in the map, a
            label has two folders or a folder two labels, or a path is listed twice.
    """
    root = existing_folder(videos_root)
    names = None if label_map is None else [name for _, name in read_lines(Path(label_map))]
    label_by_number: dict[int, str] = {}
    rows, videos = [], []
    for file in map(Path, as_list(lists)):
        split_match = _MMACTION_SPLIT.search(file.stem)
        if split is None and split_match is None:
            raise AnnotationError(f"{file}: its name has none of train, val and test; give the split of all its videos")
        given = None if split is None else normalize_split(split)
        name = agree_on_split(split_match[1], given, str(file), "rename the file") if split_match else given or ""
        for row in list_lines(file):
            path, number = _mmaction_line(row, root)
            if names is not None and number >= len(names):
                raise row.error("line", f"label {number} is not in {label_map}, whose last is {len(names) - 1}")
            if names is None and "/" not in path:
                raise row.error("line", "has no folder to name the class; give a label map (--classes)")
            label = names[number] if names is not None else path.split("/")[-2]
            if label_by_number.setdefault(number, label) != label:
                raise row.error(
                    "line", f"label {number} is {label_by_number[number]!r} before; give a label map (--classes)"
                )
            rows.append(row)
            videos.append((path, label, name))
    refuse_repeats([path for path, _, _ in videos], rows, "path")
    classes = names or [label_by_number[number] for number in sorted(label_by_number)]
    if len(set(classes)) < len(classes):
        repeated = next(label for label in classes if classes.count(label) > 1)
        raise AnnotationError(
            f"{label_map or as_list(lists)[0]}: class {repeated!r} has two labels; give each its own name"
        )
    keys = make_keys([path for path, _, _ in videos])
    records = [
        VideoRecord(join(root, path), key, label, name, infer_group(path, key))
        for key, (path, label, name) in zip(keys, videos, strict=True)
    ]
    return Annotations(records, (), tuple(classes))


def _mmaction_line(row: AnnotationRow, root: Path) -> tuple[str, int]:
    path, _, number = row.values["line"].rpartition(" ")
    if re.fullmatch(r"\d+", number, re.ASCII) is None:
        raise row.error("line", "must be a path and the number of its class")
    path = from_windows(root, path.strip())
    if not is_file_name(path):
        raise row.error("line", "must be a path, without control characters, and the number of its class")
    if not has_video_suffix(path) and not (root / path).is_file():
        frames = re.fullmatch(r"(.+) \d+", path)  # a line of a list of frames: folder, number of frames, class
        path = path if frames is None or (root / path).is_dir() else frames[1]
    return path, int(number)


def _matches(head: ListHead) -> bool:
    """Any text file without the columns of a plain list, or a first line "video.mp4 3"."""
    if head.path.suffix == ".txt" and head.header:
        return not has_columns(head.header, CSV_COLUMNS, ("path", "label"))
    line = _MMACTION_LINE.fullmatch(" ".join(head.header))
    return line is not None and has_video_suffix(line[1])


MMACTION = ListFormat(
    "mmaction",
    'mmaction2: text files of lines "path label", or "folder number_of_frames label" of raw frames, with train, val or '
    "test in their names; --classes is the label map, and without one the folders are the classes. Videos: at the "
    "paths, relative to --videos.",
    "abseiling/0347ZoDXyP0_000095_000105.mp4 0\n"
    "air_drumming/cc_5hSQT4BQ_000021_000031.mp4 1\n"
    "zumba/zpz3kNRnXcs_000055_000065.mp4 399",
    lambda source: read_mmaction(source.paths, source.videos, source.split, source.label_map),
    _matches,
)
