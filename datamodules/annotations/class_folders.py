"""Reader of class folders: the folder of a video gives its class, and optionally its split."""

from pathlib import Path
from typing import NamedTuple

from datamodules.annotations.records import Annotations, PathLike, VideoRecord, group_of
from datamodules.annotations.refusals import NOT_TEXT, OUTSIDE, Refusal
from datamodules.annotations.skipped_files import describe_left_out, merge, name_some
from datamodules.annotations.tables import AnnotationError, split_name, usual_split
from datamodules.annotations.video_files import (
    FolderFiles,
    existing_folder,
    is_folder,
    is_text,
    join,
    make_keys,
    scan_files,
    scan_folder,
    visible_entries,
)

_SHOWN = 8


class _Found(NamedTuple):
    """A video's path below the root, its class ("" if no folder names one), and its split."""

    path: str
    label: str
    split: str


def read_class_folders(root: PathLike, split: str | None = None) -> Annotations:
    """Read folders named after classes: root/{train,val,test}/class/..., or root/class/... with a given split.

    All videos below a class folder belong to the class. Names as in UCF101, v_{class}_g{source}_c{take}, give the group
    {class}_g{source}, names as in Kinetics the youtube id; any other video is its own group. Sorted by path. Split
    folders may have other usual names: Train, TEST, valid, dev (see `SPLIT_NAMES`).

    Every file is either a video, by its suffix or its content, or mentioned in `notes`. Videos outside the class
    folders, or whose name is not UTF-8, are in `refused`.

    Args:
        root: folder to read.
        split: read root/split/class/... if it exists, otherwise all of root/class/... as this split.

    Raises:
        AnnotationError: a folder is missing or cannot be read, or no video can be packed.
    """
    folder = existing_folder(root)
    split = None if split is None else split_name(split)
    folders, notes = _split_folders(folder, split)
    scanned = {name: scan_folder(folder / name) for name in folders}
    found = [_placed(name, path, folders[name]) for name, files in scanned.items() for path in files.videos]
    if "" not in folders and split is None:
        scanned[""] = scan_files(folder)
        found += [_Found(path, "", "") for path in scanned[""].videos]
    files = merge(list(scanned.items()))
    if files.closed:
        closed, why = next(iter(sorted(files.closed.items())))
        raise AnnotationError(f"{folder / closed}: cannot be read ({why}); check its permissions")
    found.sort(key=lambda one: one.path)
    annotations = _annotations(folder, found, files)
    notes += [*_empty_classes(folder, folders, found), describe_left_out(files)]
    return Annotations(annotations.records, refused=annotations.refused, notes=tuple(filter(None, notes)))


def _placed(folder: str, path: str, split: str) -> _Found:
    label, *rest = path.split("/")
    return _Found(f"{folder}/{path}" if folder else path, label if rest else "", split)


def _annotations(root: Path, found: list[_Found], files: FolderFiles) -> Annotations:
    """The videos as records; those that cannot be represented as a record are refused."""
    records, refused = [], []
    for one, key in zip(found, make_keys([one.path for one in found]), strict=True):
        if not is_text(one.path):
            refused.append(Refusal(one.path, key, NOT_TEXT, "the name is not UTF-8; rename the file or folder"))
        elif not one.label:
            refused.append(Refusal(one.path, key, OUTSIDE, "lies outside the classes' folders; move it into one"))
        else:
            records.append(VideoRecord(join(root, one.path), key, one.label, one.split, group_of(one.path, key)))
    if records:
        return Annotations(records, refused=tuple(refused))
    if refused:
        raise AnnotationError(f"{root / refused[0].path}: {refused[0].detail}; no other video is there")
    told = describe_left_out(files)
    raise AnnotationError(f"{root}: has no video in any class's folder{f' ({told})' if told else ''}")


def _empty_classes(root: Path, folders: dict[str, str], found: list[_Found]) -> list[str]:
    """A sentence that lists class folders without videos, if there are any."""
    named = {above for one in found for above in _above(one.path)}
    empty = [
        f"{name}/{entry.name}" if name else entry.name
        for name in sorted(folders)
        for entry in visible_entries(root / name)
        if is_folder(entry) and (f"{name}/{entry.name}" if name else entry.name) not in named
    ]
    return [f"no video in the folders {name_some(empty, _SHOWN)}"] if empty else []


def _above(path: str) -> list[str]:
    """The first two folders of a path below the root: a class folder, or a split's and a class's."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:n]) for n in (1, 2)]


def _split_folders(root: Path, split: str | None) -> tuple[dict[str, str], list[str]]:
    """Folder -> split of the folders to read, "" being the root itself; and a sentence on the folders not read."""
    names = [entry.name for entry in visible_entries(root) if is_folder(entry)]
    splits = {name: usual_split(name) for name in names}
    splits = {name: known for name, known in splits.items() if known in ("train", "val", "test", split)}
    if len(splits) < len(names):  # `Training` may be a class: a split folder has class folders in it
        splits = {name: known for name, known in splits.items() if any(map(is_folder, visible_entries(root / name)))}
    if split is None and not splits:
        raise AnnotationError(
            f"{root}: has no folder train, val or test with folders of classes in it; give the split of all its videos"
        )
    if split is None or not splits:
        return splits or {"": split or ""}, _unread(splits, names)
    if split not in splits.values():
        raise AnnotationError(f"split={split!r}: {root} has {', '.join(splits)} only; name one of them")
    return {name: known for name, known in splits.items() if known == split}, []


def _unread(splits: dict[str, str], names: list[str]) -> list[str]:
    """A sentence that lists the folders beside the split folders."""
    beside = [name for name in names if name not in splits]
    if not splits or not beside:
        return []
    return [
        f"folders beside {', '.join(splits)} are not read: {name_some(beside, _SHOWN)}; if they are splits, call them "
        "train, val or test, if they are classes, move them into one of those"
    ]
