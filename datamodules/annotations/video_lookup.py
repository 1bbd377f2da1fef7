"""Lookup of videos in a folder by name, for lists that do not give paths."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.annotations.content_sniffing import are_videos
from datamodules.annotations.records import split_synonym
from datamodules.annotations.skipped_files import count_noun, join_first_names
from datamodules.annotations.video_files import VIDEO_SUFFIXES, has_video_suffix, is_folder, join, visible_entries


class VideoQuery(NamedTuple):
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


class VideoNameIndex:
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
        self._choices: list[tuple[str, str]] = []  # chosen file, and one of the others
        level = [""]
        for _ in range(depth + 1):
            level = [below for folder in level for below in self._read(folder)]

    @property
    def stems(self) -> Sequence[str]:
        """The names of all videos, without suffix."""
        return list(self._videos)

    def find(self, queries: Sequence[VideoQuery]) -> list[str | None]:
        """The path of each video, relative to the folder; None if there is no file of its name."""
        candidates = [_matching_files(query, self._videos) for query in queries]
        missing = [query for query, found in zip(queries, candidates, strict=True) if not found]
        undetermined = sorted({path for query in missing for path in _matching_files(query, self._others)})
        inspected = are_videos([os.path.join(self._root, path) for path in undetermined])  # noqa: PTH118
        videos = {path for path, is_video in zip(undetermined, inspected, strict=True) if is_video}
        return [
            self._choose(query, found or [path for path in _matching_files(query, self._others) if path in videos])
            for query, found in zip(queries, candidates, strict=True)
        ]

    def notes(self) -> list[str]:
        """A sentence if one of several files was chosen for any video so far."""
        if not self._choices:
            return []
        chosen, other = self._choices[0]
        first = f"of {join_first_names([chosen])} and {join_first_names([other])} the first is taken"
        return [
            f"several files have the name of one video of the list ({count_noun(len(self._choices), 'video')}): {first}"
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

    def _choose(self, query: VideoQuery, candidates: Sequence[str]) -> str | None:
        if len(candidates) < 2:
            return candidates[0] if candidates else None
        first, second, *_ = sorted(candidates, key=lambda path: _preference_key(path, query))
        self._choices.append((first, second))
        return first


def _matching_files(query: VideoQuery, files: Mapping[str, list[str]]) -> list[str]:
    """The files of the wanted name, in the wanted folder."""
    found = files.get(query.stem, [])
    if not query.folder:
        return found
    return [path for path in found if f"/{os.path.dirname(path)}".endswith(f"/{query.folder}")]  # noqa: PTH120


def _preference_key(path: str, query: VideoQuery) -> tuple[bool, bool, bool, int, str]:
    """Sort key, best first: in the label's folder, in the split's, with the list's suffix, then by suffix."""
    *folders, name = path.replace(" ", "_").split("/")
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122
    suffix_rank = VIDEO_SUFFIXES.index(suffix) if suffix in VIDEO_SUFFIXES else len(VIDEO_SUFFIXES)
    splits = [split_synonym(folder) for folder in folders]
    outside = query.label.replace(" ", "_") not in folders
    return outside, query.split not in splits, suffix != query.suffix.lower(), suffix_rank, path


def locate_videos(
    root: Path, queries: Sequence[VideoQuery], defaults: Sequence[str], depth: int = 2
) -> tuple[list[str], list[str]]:
    """Finds videos by name in a folder; one that is not there gets its default path.

    Args:
        root: the folder of the videos.
        queries: what to find.
        defaults: for each query the path in the official layout, relative to the folder.
        depth: number of levels of folders below `root` that are searched.

    Returns:
        The paths, which begin with the folder's; and sentences on what was chosen among several files.

    Raises:
        AnnotationError: a folder cannot be read, or a name is not text.
    """
    files = VideoNameIndex(root, depth)
    found = files.find(queries)
    return [join(root, path or default) for path, default in zip(found, defaults, strict=True)], files.notes()
