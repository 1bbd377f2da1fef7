"""Lookup of videos in a folder by name, for lists that do not give paths."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.annotations.content_sniffing import are_videos
from datamodules.annotations.skipped_files import count_of, name_some
from datamodules.annotations.tables import usual_split
from datamodules.annotations.video_files import VIDEO_SUFFIXES, has_video_suffix, is_folder, visible_entries


class Wanted(NamedTuple):
    """A video to be found.

    Attributes:
        stem: its name without suffix.
        label: its class; files in a folder of that name, in which blanks may be underscores, are preferred.
        split: files in a folder of that name are preferred next; "" if not known.
        suffix: files with this suffix (with the dot) are preferred next; "" if the list has none.
        folder: required end of the path of its folder; "" for any folder.
    """

    stem: str
    label: str
    split: str = ""
    suffix: str = ""
    folder: str = ""


class VideosByName:
    """The files in a folder and `depth` levels below it, by their names without suffix.

    Each folder is read once, and files with a video suffix are not opened: fast for hundreds of thousands of videos,
    also on a network. Other files are inspected only where no video file has a wanted name.

    Args:
        root: the folder.
        depth: number of levels below it.

    Raises:
        AnnotationError: a folder cannot be read.
    """

    def __init__(self, root: Path, depth: int = 2) -> None:
        self._root = root
        self._videos: dict[str, list[str]] = {}
        self._others: dict[str, list[str]] = {}
        self._several: list[tuple[str, str]] = []  # chosen file, and one of the others
        level = [""]
        for _ in range(depth + 1):
            level = [below for folder in level for below in self._read(folder)]

    @property
    def stems(self) -> Sequence[str]:
        """The names of all videos, without suffix."""
        return list(self._videos)

    def find(self, wanted: Sequence[Wanted]) -> list[str | None]:
        """The path of each video, relative to the folder; None if there is no file of its name."""
        candidates = [_of(one, self._videos) for one in wanted]
        missing = [one for one, found in zip(wanted, candidates, strict=True) if not found]
        unsure = sorted({path for one in missing for path in _of(one, self._others)})
        looked_at = zip(unsure, are_videos([os.path.join(self._root, path) for path in unsure]), strict=True)  # noqa: PTH118
        videos = {path for path, is_video in looked_at if is_video}
        return [
            self._choose(one, found or [path for path in _of(one, self._others) if path in videos])
            for one, found in zip(wanted, candidates, strict=True)
        ]

    def notes(self) -> list[str]:
        """A sentence if one of several files was chosen for any video so far."""
        if not self._several:
            return []
        taken, left = self._several[0]
        first = f"of {name_some([taken])} and {name_some([left])} the first is taken"
        return [
            f"several files have the name of one video of the list ({count_of(len(self._several), 'video')}): {first}"
        ]

    def _read(self, folder: str) -> list[str]:
        below = []
        for entry in visible_entries(self._root / folder):
            relative = f"{folder}/{entry.name}" if folder else entry.name
            stem = os.path.splitext(entry.name)[0]  # noqa: PTH122
            named_video = has_video_suffix(entry.name)
            if entry.is_dir(follow_symlinks=False) or (not named_video and is_folder(entry)):
                below.append(relative)
            elif named_video:
                self._videos.setdefault(stem, []).append(relative)
            else:
                for name in {stem, entry.name}:
                    self._others.setdefault(name, []).append(relative)
        return below

    def _choose(self, wanted: Wanted, candidates: Sequence[str]) -> str | None:
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        first, second, *_ = sorted(candidates, key=lambda path: _rank(path, wanted))
        self._several.append((first, second))
        return first


def _of(wanted: Wanted, files: Mapping[str, list[str]]) -> list[str]:
    """The files of the wanted name, in the wanted folder."""
    found = files.get(wanted.stem, [])
    if not wanted.folder:
        return found
    return [path for path in found if f"/{os.path.dirname(path)}".endswith(f"/{wanted.folder}")]  # noqa: PTH120


def _rank(path: str, wanted: Wanted) -> tuple[bool, bool, bool, int, str]:
    """Sort key, best first: in the label's folder, in the split's, with the list's suffix, then by suffix."""
    *folders, name = path.replace(" ", "_").split("/")
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
    place = VIDEO_SUFFIXES.index(suffix) if suffix in VIDEO_SUFFIXES else len(VIDEO_SUFFIXES)
    splits = [usual_split(folder) for folder in folders]
    outside = wanted.label.replace(" ", "_") not in folders
    return outside, wanted.split not in splits, suffix != wanted.suffix.lower(), place, path
