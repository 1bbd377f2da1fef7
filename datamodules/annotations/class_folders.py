"""Reader of class folders: the folder of a video gives its class, and optionally its split."""

from pathlib import Path
from typing import NamedTuple

from datamodules.annotations.records import (
    ALL_VIDEOS,
    Annotations,
    PathLike,
    VideoRecord,
    infer_group,
    normalize_split,
    split_synonym,
)
from datamodules.annotations.refusals import BAD_NAME, OUTSIDE_CLASSES, Refusal
from datamodules.annotations.skipped_files import describe_skipped_files, join_first_names, merge_folder_files
from datamodules.annotations.tables import AnnotationError
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
from datamodules.video.image_folder import has_image_suffix

_MAX_NAMES = 8


class _FolderVideo(NamedTuple):
    """A video's path below the root, its class ("" if no folder names one), and its split."""

    path: str
    label: str
    split: str


def read_class_folders(root: PathLike, split: str | None = None, frames_per_second: float | None = None) -> Annotations:
    """Read folders named after classes: root/{train,val,test}/class/..., or root/class/... with a given split.

    All videos below a class folder belong to the class. Names as in UCF101, v_{class}_g{source}_c{take}, give the group
    {class}_g{source}, names as in Kinetics the youtube id; any other video is its own group. Sorted by path. Split
    folders may have other usual names: Train, TEST, valid, dev (see `SPLIT_NAMES`).

    Every file is either a video, by its suffix or its content, or mentioned in `notes`. Videos outside the class
    folders, or whose name is not UTF-8, are in `refused`.

    Args:
        root: folder to read.
        split: read root/split/class/... if it exists, otherwise all of root/class/... as this split.
        frames_per_second: read folders of images below the class folders as videos of this rate; None: images are no
            videos.

    Raises:
        AnnotationError: a folder is missing or cannot be read, or no video can be packed.
    """
    folder = existing_folder(root)
    split = None if split is None else normalize_split(split)
    folders, notes = _split_folders(folder, split)
    scanned = {name: scan_folder(folder / name, frames_per_second is not None) for name in folders}
    videos = [_folder_video(name, path, folders[name]) for name, files in scanned.items() for path in files.videos]
    if "" not in folders and split is None:
        scanned[""] = scan_files(folder)
        videos += [_FolderVideo(path, "", "") for path in scanned[""].videos]
    files = merge_folder_files(list(scanned.items()))
    if files.unreadable_folders:
        unreadable, reason = next(iter(sorted(files.unreadable_folders.items())))
        raise AnnotationError(f"{folder / unreadable}: cannot be read ({reason}); check its permissions")
    videos.sort(key=lambda video: video.path)
    annotations = _make_annotations(folder, videos, files, frames_per_second)
    notes += [*_describe_empty_classes(folder, folders, videos), describe_skipped_files(files)]
    return Annotations(annotations.records, refused=annotations.refused, notes=tuple(filter(None, notes)))


def _folder_video(folder: str, path: str, split: str) -> _FolderVideo:
    label, *rest = path.split("/")
    return _FolderVideo(f"{folder}/{path}" if folder else path, label if rest else "", split)


def _make_annotations(
    root: Path, videos: list[_FolderVideo], files: FolderFiles, frames_per_second: float | None
) -> Annotations:
    """The videos as records; those that cannot be represented as a record are refused."""
    records, refused = [], []
    for video, key in zip(videos, make_keys([video.path for video in videos]), strict=True):
        if not is_text(video.path):
            refused.append(Refusal(video.path, key, BAD_NAME, "the name is not UTF-8; rename the file or folder"))
        elif not video.label:
            refused.append(
                Refusal(video.path, key, OUTSIDE_CLASSES, "lies outside the classes' folders; move it into one")
            )
        else:
            path, group = join(root, video.path), infer_group(video.path, key)
            rate = frames_per_second if video.path in files.image_folders else None
            records.append(VideoRecord(path, key, video.label, video.split, group, frames_per_second=rate))
    if records:
        return Annotations(records, refused=tuple(refused))
    if refused:
        raise AnnotationError(f"{root / refused[0].path}: {refused[0].detail}; no other video is there")
    left_out = describe_skipped_files(files)
    hint = (
        "; for folders of images give their rate (--frames-per-second)"
        if any(map(has_image_suffix, files.others))
        else ""
    )
    raise AnnotationError(f"{root}: has no video in any class's folder{f' ({left_out})' if left_out else ''}{hint}")


def _describe_empty_classes(root: Path, folders: dict[str, str], videos: list[_FolderVideo]) -> list[str]:
    """A sentence that lists class folders without videos, if there are any."""
    named = {folder for video in videos for folder in _parent_folders(video.path)}
    empty = [
        f"{name}/{entry.name}" if name else entry.name
        for name in sorted(folders)
        for entry in visible_entries(root / name)
        if is_folder(entry) and (f"{name}/{entry.name}" if name else entry.name) not in named
    ]
    return [f"no video in the folders {join_first_names(empty, _MAX_NAMES)}"] if empty else []


def _parent_folders(path: str) -> list[str]:
    """The first two folders of a path below the root: a class folder, or a split's and a class's."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:n]) for n in (1, 2)]


def _split_folders(root: Path, split: str | None) -> tuple[dict[str, str], list[str]]:
    """Folder -> split of the folders to read, "" being the root itself; and a sentence on the folders not read."""
    names = [entry.name for entry in visible_entries(root) if is_folder(entry)]
    splits = {name: split_synonym(name) for name in names}
    splits = {name: canonical for name, canonical in splits.items() if canonical in ("train", "val", "test", split)}
    if len(splits) < len(names):  # `Training` may be a class: a split folder has class folders in it
        splits = {
            name: canonical for name, canonical in splits.items() if any(map(is_folder, visible_entries(root / name)))
        }
    if split is None and not splits:
        raise AnnotationError(
            f"{root}: has no folder train, val or test with folders of classes in it; divide the videos (--split "
            "train=0.8,val=0.1,test=0.1, or --folds 5), give the split of all (--split train), or --format files where "
            "they have no classes"
        )
    if split is None or not splits:
        return splits or {"": split or ""}, _describe_unread_folders(splits, names)
    if split not in splits.values():
        if split == ALL_VIDEOS:
            raise AnnotationError(
                f"{root}: has folders of splits already ({', '.join(splits)}); leave --split and --folds out, or give "
                "one of these folders as the folder of the videos"
            )
        raise AnnotationError(f"split={split!r}: {root} has {', '.join(splits)} only; name one of them")
    return {name: canonical for name, canonical in splits.items() if canonical == split}, []


def _describe_unread_folders(splits: dict[str, str], names: list[str]) -> list[str]:
    """A sentence that lists the folders beside the split folders."""
    beside = [name for name in names if name not in splits]
    if not splits or not beside:
        return []
    return [
        f"folders beside {', '.join(splits)} are not read: {join_first_names(beside, _MAX_NAMES)}; if they are splits, "
        "call them train, val or test, if they are classes, move them into one of those"
    ]
