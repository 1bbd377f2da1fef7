"""Finding the video files of a data set in their folders, and names for them that any shard can bear."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from datamodules.annotation_tables import SPLIT_NAMES, AnnotationError

VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg")  # earlier ones win where a video has several


def existing_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder as a Path; raises AnnotationError where there is none."""
    if not Path(folder).is_dir():
        raise AnnotationError(f"videos={os.fspath(folder)}: there is no such folder; name the folder of the videos")
    return Path(folder)


def join(root: Path, relative: str) -> str:
    """The path of a file below a root; raises AnnotationError where its name is not text."""
    path = os.path.normpath(os.path.join(root, relative))  # noqa: PTH118, faster than Path for 300,000 videos
    try:
        path.encode()
    except UnicodeEncodeError:
        raise AnnotationError(f"{os.fsencode(path)!r}: the name is not UTF-8; rename the file or folder") from None
    return path


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, sorted by name, without hidden files; raises AnnotationError where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise AnnotationError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None


def list_by_stem(root: Path, depth: int = 2) -> dict[str, list[str]]:
    """Name without suffix -> relative paths of the videos in a folder and `depth` levels below.

    Each folder is read once, and no file is asked for: quick for hundreds of thousands of videos, on a network too.
    """
    found: dict[str, list[str]] = {}
    level = [""]
    for _ in range(depth + 1):
        below = []
        for folder in level:
            for entry in visible_entries(root / folder):
                relative = f"{folder}/{entry.name}" if folder else entry.name
                stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122
                if suffix.lower() in VIDEO_SUFFIXES:
                    found.setdefault(stem, []).append(relative)
                elif entry.is_dir():
                    below.append(relative)
        level = below
    return found


def choose(candidates: Sequence[str], label: str, split: str) -> str | None:
    """The candidate in the label's folder, then in the split's, then by suffix; None without candidates."""
    if len(candidates) < 2:
        return candidates[0] if candidates else None

    def rank(path: str) -> tuple[bool, bool, int, str]:
        *folders, name = path.replace(" ", "_").split("/")
        suffix = VIDEO_SUFFIXES.index(Path(name).suffix.lower())
        splits = [SPLIT_NAMES.get(folder, folder) for folder in folders]
        return label.replace(" ", "_") not in folders, split not in splits, suffix, path

    return min(candidates, key=rank)


def walk_videos(root: Path) -> list[str]:
    """Relative paths, with forward slashes, of all videos at any depth below a folder, sorted."""
    found: list[str] = []

    def visit(folder: str, above: frozenset[str]) -> None:
        real = os.path.realpath(root / folder)
        if real in above:
            raise AnnotationError(f"{root / folder}: is a link to a folder above itself; remove it")
        for entry in visible_entries(root / folder):
            relative = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir():
                visit(relative, above | {real})
            elif entry.name.lower().endswith(VIDEO_SUFFIXES):
                found.append(relative)

    visit("", frozenset())
    return sorted(found)


def make_keys(paths: Sequence[str]) -> list[str]:
    """A key for each relative path: without suffix, other characters replaced; alike ones get a hash of the path.

    >>> make_keys(["fight/fi001.mp4", "fight/a b.mp4", "fight/a+b.mp4"])
    ['fight_fi001', 'fight_a_b-fa268767', 'fight_a_b-aed81d65']
    """
    plain = [re.sub(r"[^A-Za-z0-9_-]", "_", os.path.splitext(path)[0]) for path in paths]  # noqa: PTH122
    count = Counter(plain)
    return [
        key if count[key] == 1 else f"{key}-{hashlib.sha256(path.encode()).hexdigest()[:8]}"
        for key, path in zip(plain, paths, strict=True)
    ]
