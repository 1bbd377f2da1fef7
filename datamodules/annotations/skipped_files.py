"""Summary of the files in a folder that are not read as videos: counts, suffixes and some names, in one sentence."""

import os
from collections import defaultdict
from collections.abc import Sequence

from datamodules.annotations.video_files import FolderFiles

_NAMES_SHOWN = 3
_SUFFIXES_SHOWN = 8


def describe_left_out(files: FolderFiles) -> str:
    """The summary sentence; empty if all files are videos.

    >>> describe_left_out(FolderFiles(["a.mp4"], ["a.txt", "b.txt", "README"], [".git"], [], {}))
    'left out 3 files that are no videos: .txt (2: a.txt, b.txt), no suffix (1: README); 1 hidden: .git'
    """
    parts = []
    if files.others:
        parts.append(f"{count_of(len(files.others), 'file')} that {_are(files.others)}: {_by_suffix(files.others)}")
    if files.hidden:
        parts.append(f"{len(files.hidden)} hidden: {name_some(files.hidden)}")
    if files.unreadable:
        parts.append(f"{count_of(len(files.unreadable), 'file')} that cannot be read: {name_some(files.unreadable)}")
    return f"left out {'; '.join(parts)}" if parts else ""


def merge(found: Sequence[tuple[str, FolderFiles]]) -> FolderFiles:
    """Merges the contents of several folders, with their paths prepended."""
    merged = FolderFiles([], [], [], [], {})
    for folder, files in found:
        before = f"{folder}/" if folder else ""
        for all_of, some in zip(merged[:4], files[:4], strict=True):
            all_of.extend(before + path for path in some)
        merged.closed.update({before + path: why for path, why in files.closed.items()})
    return merged


def name_some(names: Sequence[str], shown: int = _NAMES_SHOWN) -> str:
    """The first few names, with control characters escaped."""
    some = ", ".join(name if name.isprintable() else repr(name)[1:-1] for name in names[:shown])
    return some if len(names) <= shown else f"{some}, ..."


def count_of(number: int, what: str) -> str:
    """A number and its noun, in the plural if needed."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def _are(files: Sequence[str]) -> str:
    return "is no video" if len(files) == 1 else "are no videos"


def _by_suffix(files: Sequence[str]) -> str:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for path in files:
        groups[os.path.splitext(path)[1].lower() or "no suffix"].append(path)  # noqa: PTH122
    ordered = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))
    told = [f"{name_some([suffix])} ({len(names)}: {name_some(names)})" for suffix, names in ordered[:_SUFFIXES_SHOWN]]
    more = len(ordered) - len(told)
    return ", ".join([*told, f"and {more} more"] if more else told)
