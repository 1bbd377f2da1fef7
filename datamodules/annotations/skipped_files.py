"""Summary of the files in a folder that are not read as videos: counts, suffixes and some names, in one sentence."""

import os
from collections import defaultdict
from collections.abc import Sequence

from datamodules.annotations.video_files import FolderFiles

_MAX_NAMES = 3
_MAX_SUFFIXES = 8


def describe_skipped_files(files: FolderFiles) -> str:
    """The summary sentence; empty if all files are videos.

    >>> describe_skipped_files(FolderFiles(["a.mp4"], ["a.txt", "b.txt", "README"], [".git"], [], {}))
    'left out 3 files that are no videos: .txt (2: a.txt, b.txt), no suffix (1: README); 1 hidden: .git'
    """
    parts = []
    if files.others:
        count, verb = count_noun(len(files.others), "file"), _describe_others(files.others)
        parts.append(f"{count} that {verb}: {_describe_suffixes(files.others)}")
    if files.hidden:
        parts.append(f"{len(files.hidden)} hidden: {join_first_names(files.hidden)}")
    if files.unreadable:
        parts.append(
            f"{count_noun(len(files.unreadable), 'file')} that cannot be read: {join_first_names(files.unreadable)}"
        )
    return f"left out {'; '.join(parts)}" if parts else ""


def merge_folder_files(folders: Sequence[tuple[str, FolderFiles]]) -> FolderFiles:
    """Merges the contents of several folders, with their paths prepended."""
    merged = FolderFiles([], [], [], [], {})
    for folder, files in folders:
        prefix = f"{folder}/" if folder else ""
        for merged_paths, paths in zip(merged[:4], files[:4], strict=True):
            merged_paths.extend(prefix + path for path in paths)
        merged.unreadable_folders.update({prefix + path: reason for path, reason in files.unreadable_folders.items()})
        image_folders = merged.image_folders.union(prefix + path for path in files.image_folders)
        merged = merged._replace(image_folders=image_folders)
    return merged


def join_first_names(names: Sequence[str], limit: int = _MAX_NAMES) -> str:
    """The first few names, with control characters escaped."""
    joined = ", ".join(name if name.isprintable() else repr(name)[1:-1] for name in names[:limit])
    return joined if len(names) <= limit else f"{joined}, ..."


def count_noun(count: int, noun: str) -> str:
    """A number and its noun, in the plural if needed."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _describe_others(files: Sequence[str]) -> str:
    return "is no video" if len(files) == 1 else "are no videos"


def _describe_suffixes(files: Sequence[str]) -> str:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for path in files:
        groups[os.path.splitext(path)[1].lower() or "no suffix"].append(path)  # noqa: PTH122
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    suffixes = [
        f"{join_first_names([suffix])} ({len(names)}: {join_first_names(names)})"
        for suffix, names in ordered[:_MAX_SUFFIXES]
    ]
    num_omitted = len(ordered) - len(suffixes)
    return ", ".join([*suffixes, f"and {num_omitted} more"] if num_omitted else suffixes)
