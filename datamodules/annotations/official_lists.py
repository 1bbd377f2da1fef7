"""Readers of official text lists: UCF101 and HMDB51 with their three folds, and mmaction2's "path label" lines.

The files are read as published. Videos of UCF101 and HMDB51 are found by name in the videos' folder and up to two
folders deeper, with any suffix, preferably the list's; a missing video keeps the path in the list.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from datamodules.annotations.records import Annotations, PathLike, VideoRecord, as_list, infer_group
from datamodules.annotations.tables import AnnotationError, AnnotationRow, normalize_split, read_lines, refuse_repeats
from datamodules.annotations.video_files import existing_folder, from_windows, has_video_suffix, join, make_keys
from datamodules.annotations.video_lookup import VideoNameIndex, VideoQuery

_UCF101_LIST = re.compile(r"(train|test)list0*(\d+)\.txt")
_UCF101_CLASSES = "classInd.txt"
_HMDB51_LIST = re.compile(r"(.+)_test_split(\d+)\.txt")
_HMDB51_SPLITS = {"0": "", "1": "train", "2": "test"}
_HMDB51_NAME = re.compile(r"(.+)_[a-z]_(?:cm|nm)_np\d_[a-z]{2}_[a-z]{3}_\d+")  # {source}_{class}_{five properties}_{n}
_MMACTION_SPLIT = re.compile(r"(?:^|[_-])(train|val|test)(?:[_-]|$)")


def detect_official(path: Path) -> Literal["ucf101", "hmdb51", "mmaction"] | None:
    """The format of a list or a folder of lists, by its name and first line; None if it is none of the three."""
    names = [item.name for item in path.iterdir()] if path.is_dir() else [path.name]
    if _UCF101_CLASSES in names or any(_UCF101_LIST.fullmatch(name) for name in names):
        return "ucf101"
    if any(_HMDB51_LIST.fullmatch(name) for name in names):
        return "hmdb51"
    return "mmaction" if path.suffix == ".txt" and path.is_file() else None


def read_ucf101(lists: PathLike | Sequence[PathLike], videos_root: PathLike) -> Annotations:
    """Read UCF101: classInd.txt and trainlist01.txt, testlist01.txt and so on; each pair is a fold.

    The group is the source video, {class}_gNN. Classes are in the order of classInd.txt.

    Args:
        lists: the folder of the files, or some pairs of lists, with classInd.txt in their folder.
        videos_root: folder of the videos, {class}/v_{class}_gNN_cNN.avi or flat.

    Raises:
        AnnotationError: a file is missing, a line is malformed, or a video is on both sides of a fold.
    """
    list_files = _find_lists(lists, _UCF101_LIST)
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
            for row in _rows(list_files[side, fold]):
                path, number = _ucf101_line(row)
                label = path.split("/")[0]
                if label not in numbers or number not in ("", numbers[label]):
                    expected = f"its number in {_UCF101_CLASSES} is {numbers.get(label, 'missing')}"
                    raise row.error("line", f"class {label!r} does not fit, {expected}; use the official files")
                entries[fold].append((path, side, row))
    return _make_annotations(entries, {}, existing_folder(videos_root), tuple(numbers))


def read_hmdb51(lists: PathLike | Sequence[PathLike], videos_root: PathLike) -> Annotations:
    """Read HMDB51: {class}_test_split{1,2,3}.txt with lines of a file name and 0 (unused), 1 (train) or 2 (test).

    A video that a fold does not use has the split "" there. The group is the class and the source at the beginning of
    the file name, {source}_{class}_{properties}_{n}.avi: the official splits separate sources within a class.

    Args:
        lists: the folder of the files, or the files.
        videos_root: folder of the videos, {class}/{name}.avi or flat.

    Raises:
        AnnotationError: a file is missing, a line is malformed, or a video is listed twice in a fold.
    """
    list_files = _find_lists(lists, _HMDB51_LIST)
    if not list_files:
        raise AnnotationError(f"{as_list(lists)[0]}: has no {{class}}_test_split1.txt and so on; name their folder")
    folds = sorted({fold for _, fold in list_files}, key=int)
    entries: dict[str, list[tuple[str, str, AnnotationRow]]] = {fold: [] for fold in folds}
    groups = {}
    for label in sorted({label for label, _ in list_files}):
        for fold in folds:
            if (label, fold) not in list_files:
                folder = next(iter(list_files.values())).parent
                raise AnnotationError(f"{folder}: has no {label}_test_split{fold}.txt; other classes have split {fold}")
            for row in _rows(list_files[label, fold]):
                name, _, number = row.values["line"].rpartition(" ")
                name = name.strip()
                if number not in _HMDB51_SPLITS or not _is_name(name) or "/" in name:
                    raise row.error("line", "must be the name of a video and 0, 1 or 2")
                path = f"{label}/{name}"
                entries[fold].append((path, _HMDB51_SPLITS[number], row))
                match = _HMDB51_NAME.fullmatch(name.rpartition(".")[0])
                if match is not None and match[1].endswith(f"_{label}"):
                    groups[path] = f"{label}/{match[1].removesuffix(f'_{label}')}"
    return _make_annotations(
        entries, groups, existing_folder(videos_root), tuple(sorted({label for label, _ in list_files}))
    )


def read_mmaction(
    lists: PathLike | Sequence[PathLike],
    videos_root: PathLike,
    split: str | None = None,
    label_map: PathLike | None = None,
) -> Annotations:
    """Read mmaction2's lists of videos: lines "path label", the label a number from 0.

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
        name = normalize_split(split) if split is not None else split_match[1] if split_match else ""
        for row in _rows(file):
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


def _find_lists(lists: PathLike | Sequence[PathLike], pattern: re.Pattern[str]) -> dict[tuple[str, str], Path]:
    """The pattern's two groups -> file, for lists given as a folder or one by one."""
    found = {}
    for item in map(Path, as_list(lists)):
        for path in sorted(item.iterdir()) if item.is_dir() else [item]:
            match = pattern.fullmatch(path.name)
            if match is not None:
                found[match[1], match[2]] = path
            elif not item.is_dir() and path.name != _UCF101_CLASSES:
                raise AnnotationError(f"{path}: is not called like an official list; name the folder of the lists")
    return found


def _rows(path: Path) -> Iterator[AnnotationRow]:
    for number, line in read_lines(path):
        yield AnnotationRow(str(path), number, {"line": re.sub(r"\s", " ", line)})


def _is_name(path: str) -> bool:
    """Whether a path can be the name of a file; the suffix is ignored."""
    return bool(path) and re.search(r"[\x00-\x1f\x7f]", path) is None


def _ucf101_classes(file: Path) -> dict[str, str]:
    """Class name -> its number as text, in numerical order."""
    numbers: dict[str, str] = {}
    for row in _rows(file):
        match = re.fullmatch(r"0*(\d+) +(\S+)", row.values["line"])
        if match is None or match[2] in numbers or int(match[1]) != len(numbers) + 1:
            raise row.error("line", f"must be {len(numbers) + 1} and the name of a class not named before")
        numbers[match[2]] = match[1]
    return numbers


def _ucf101_line(row: AnnotationRow) -> tuple[str, str]:
    match = re.fullmatch(r"([^/]+/[^/]+?)(?: +(\d+))?", row.values["line"].replace("\\", "/"))
    if match is None or not _is_name(match[1]):
        raise row.error("line", "must be class/video and, in a trainlist, the number of the class")
    return match[1], match[2] or ""


def _mmaction_line(row: AnnotationRow, root: Path) -> tuple[str, int]:
    path, _, number = row.values["line"].rpartition(" ")
    if re.fullmatch(r"\d+", number, re.ASCII) is None:
        raise row.error("line", "must be a path and the number of its class")
    path = from_windows(root, path.strip())
    if not _is_name(path):
        raise row.error("line", "must be a path, without control characters, and the number of its class")
    if not has_video_suffix(path) and not (root / path).is_file():
        frames = re.fullmatch(r"(.+) \d+", path)  # a line of a list of frames: folder, number of frames, class
        if frames is not None or (root / path).is_dir():
            raise row.error("line", "names a folder of frames, which cannot be packed; list video files")
    return path, int(number)


def _make_query(label: str, name: str) -> VideoQuery:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    return VideoQuery(stem, label, suffix=suffix) if has_video_suffix(name) else VideoQuery(name, label)


def _make_annotations(
    entries: Mapping[str, Sequence[tuple[str, str, AnnotationRow]]],
    groups: Mapping[str, str],
    root: Path,
    classes: tuple[str, ...],
) -> Annotations:
    """Records of the (path, split, line) of each fold, in the order of first mention."""
    splits: dict[str, dict[str, str]] = {}
    for fold, entry_list in entries.items():
        refuse_repeats([path for path, _, _ in entry_list], [row for _, _, row in entry_list], "video")
        for path, split, _ in entry_list:
            splits.setdefault(path, {})[fold] = split
    files = VideoNameIndex(root)
    parts = [path.split("/") for path in splits]
    found_paths = files.find([_make_query(label, name) for label, name in parts])
    records = []
    for (path, by_fold), found_path, key in zip(splits.items(), found_paths, make_keys(list(splits)), strict=True):
        group = groups.get(path) or infer_group(path, key)
        fold_splits = tuple(by_fold.get(fold, "") for fold in entries)
        record = VideoRecord(
            join(root, found_path or path), key, path.split("/")[0], "", group, fold_splits=fold_splits
        )
        records.append(record)
    return Annotations(records, tuple(entries), classes, notes=tuple(files.notes()))
