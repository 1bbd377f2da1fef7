"""Folders named after classes, as a list of videos: the folders say each video's class and, at will, its split."""

from pathlib import Path

from datamodules.annotation_tables import SPLIT_NAMES, AnnotationError, split_name
from datamodules.video_files import VIDEO_SUFFIXES, existing_folder, join, make_keys, visible_entries, walk_videos
from datamodules.video_records import Annotations, PathLike, VideoRecord, group_of


def read_class_folders(root: PathLike, split: str | None = None) -> Annotations:
    """Read folders named after classes: root/{train,val,test}/class/..., or root/class/... where the split is given.

    All videos below a class's folder are of the class. Names as in UCF101, v_{class}_g{source}_c{take}, give the group
    {class}_g{source}, names as in Kinetics the youtube id; any other video is its own group. Sorted by path.

    Args:
        root: folder to read.
        split: read root/split/class/... where it exists, else all of root/class/... as this split.

    Raises:
        AnnotationError: a folder is missing, a video lies outside the classes' folders, or there is none.
    """
    folder = existing_folder(root)
    split = None if split is None else split_name(split)
    found: list[tuple[str, str, str]] = []  # relative path, label, split
    for name, known in _split_folders(folder, split).items():
        for path in walk_videos(folder / name):
            label, *rest = path.split("/")
            if not rest:
                raise AnnotationError(f"{folder / name / path}: lies outside the classes' folders; move it into one")
            found.append((f"{name}/{path}" if name else path, label, known))
    if not found:
        raise AnnotationError(f"{folder}: has no video in any class's folder; looked for {', '.join(VIDEO_SUFFIXES)}")
    paths = [join(folder, path) for path, _, _ in found]
    keys = make_keys([path for path, _, _ in found])
    return Annotations(
        [
            VideoRecord(path, key, label, known, group_of(path, key))
            for path, key, (_, label, known) in zip(paths, keys, found, strict=True)
        ]
    )


def _split_folders(root: Path, split: str | None) -> dict[str, str]:
    """Folder -> split, for what is to be read; the folder "" is the root itself."""
    known = {entry.name: SPLIT_NAMES.get(entry.name, entry.name) for entry in visible_entries(root) if entry.is_dir()}
    splits = {name: known for name, known in known.items() if known in ("train", "val", "test", split)}
    if split is None and not splits:
        raise AnnotationError(f"{root}: has no folder train, val or test; give the split of all its videos")
    if split is None or not splits:
        return splits or {"": split or ""}
    if split not in splits.values():
        raise AnnotationError(f"split={split!r}: {root} has {', '.join(splits)} only; name one of them")
    return {name: known for name, known in splits.items() if known == split}
