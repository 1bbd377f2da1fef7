"""Reading of lists with several folds, those of UCF101 and HMDB51: text files of one line a video.

Videos are found by name in the videos' folder and up to two folders deeper, with any suffix, preferably the list's; a
missing video keeps the path in the list.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from datamodules.annotations.records import Annotations, PathLike, VideoRecord, as_list, infer_group
from datamodules.annotations.tables import AnnotationError, AnnotationRow, read_lines, refuse_repeats
from datamodules.annotations.video_files import has_video_suffix, join, make_keys
from datamodules.annotations.video_lookup import VideoNameIndex, VideoQuery


def find_lists(
    lists: PathLike | Sequence[PathLike], pattern: re.Pattern[str], ignored: str = ""
) -> dict[tuple[str, str], Path]:
    """Finds lists by a pattern of file names; returns their paths by the text of the pattern's two groups.

    Args:
        lists: the lists one by one, or their folder.
        pattern: regular expression of the names of lists, with two groups.
        ignored: name of a further file that may be among `lists`.

    Raises:
        AnnotationError: a file has another name than the pattern's and `ignored`.
    """
    found = {}
    for item in map(Path, as_list(lists)):
        for path in sorted(item.iterdir()) if item.is_dir() else [item]:
            match = pattern.fullmatch(path.name)
            if match is not None:
                found[match[1], match[2]] = path
            elif not item.is_dir() and path.name != ignored:
                raise AnnotationError(f"{path}: is not called like an official list; name the folder of the lists")
    return found


def list_lines(path: Path) -> Iterator[AnnotationRow]:
    """The lines of a text file as rows of one column, `line`; blanks of any kind are spaces."""
    for number, line in read_lines(path):
        yield AnnotationRow(str(path), number, {"line": re.sub(r"\s", " ", line)})


def is_file_name(path: str) -> bool:
    """Whether a path can be the name of a file; the suffix is ignored."""
    return bool(path) and re.search(r"[\x00-\x1f\x7f]", path) is None


def make_folds(
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


def _make_query(label: str, name: str) -> VideoQuery:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    return VideoQuery(stem, label, suffix=suffix) if has_video_suffix(name) else VideoQuery(name, label)
