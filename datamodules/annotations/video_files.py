"""Search for the video files of a dataset in folders, and keys for them that shards can use."""

import hashlib
import os
import re
import stat
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.annotations.content_sniffing import are_videos
from datamodules.annotations.tables import AnnotationError
from datamodules.video.image_folder import has_image_suffix
from datamodules.video.video_container import ABSENT, UNREADABLE, DecodeError, Source

# Files with these suffixes are videos without inspection; earlier suffixes win where a video has several files.
VIDEO_SUFFIXES = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".asf", ".flv", ".f4v", ".3gp", ".3g2"),
    *(
        ".3gpp",
        ".mts",
        ".m2ts",
        ".m2t",
        ".ts",
        ".trp",
        ".vob",
        ".ogv",
        ".ogm",
        ".mxf",
        ".rm",
        ".rmvb",
        ".divx",
        ".xvid",
    ),
    *(".dv", ".qt", ".mpe", ".m1v", ".m2v", ".mp4v", ".mpv", ".amv", ".wtv", ".dvr-ms", ".nut", ".y4m", ".mjpeg"),
    *(".mjpg", ".h264", ".264", ".hevc", ".h265", ".265", ".ivf", ".gxf", ".nsv", ".mk3d", ".insv", ".lrv"),
)
_AMBIGUOUS_SUFFIXES = (".ts", ".mts")  # TypeScript files too: their content is inspected
_MAX_READ_BYTES = 2**26  # of a file that is read into memory; several files are in memory at a time
_KNOWN_SUFFIXES = frozenset(VIDEO_SUFFIXES) - frozenset(_AMBIGUOUS_SUFFIXES)


class FolderFiles(NamedTuple):
    """The contents of a folder at any depth; paths are relative to it, with forward slashes, sorted.

    Attributes:
        videos: video files, by suffix, or for other suffixes than `VIDEO_SUFFIXES` by content.
        others: files that are not videos.
        hidden: files and folders whose name begins with a dot, which are not read.
        unreadable: files that may be videos and cannot be read.
        unreadable_folders: folder that cannot be read -> reason.
        image_folders: those of `videos` that are folders of images.
    """

    videos: list[str]
    others: list[str]
    hidden: list[str]
    unreadable: list[str]
    unreadable_folders: dict[str, str]
    image_folders: frozenset[str] = frozenset()


def existing_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder as a Path; raises AnnotationError if it does not exist."""
    if not Path(folder).is_dir():
        raise AnnotationError(f"videos={os.fspath(folder)}: there is no such folder; name the folder of the videos")
    return Path(folder)


def join(root: Path, relative: str) -> str:
    """The path of a file below a root; raises AnnotationError if its name is not text."""
    path = os.path.normpath(os.path.join(root, relative))  # noqa: PTH118, faster than Path for 300,000 videos
    if not is_text(path):
        raise AnnotationError(f"{os.fsencode(path)!r}: the name is not UTF-8; rename the file or folder")
    return path


def relative_path(path: str, root: Path) -> str:
    """A path below the root as relative to it, any other path unchanged; with forward slashes."""
    prefix = f"{os.path.normpath(root)}{os.sep}"
    return path.removeprefix(prefix).replace(os.sep, "/").lstrip("/")


def from_windows(root: Path, path: str) -> str:
    """A listed path with slashes for backslashes, unless a file with backslashes in its name exists."""
    return path if "\\" not in path or (root / path).exists() else path.replace("\\", "/")


def is_text(path: str) -> bool:
    """Whether a path is valid UTF-8, as required by the tables that packing writes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def visible_entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder, sorted by name, without hidden files; raises AnnotationError if it cannot be read."""
    try:
        return [entry for entry in _entries(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise AnnotationError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; False for broken links and those without permission."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def has_video_suffix(name: str) -> bool:
    """Whether a file of this name is a video by its suffix alone."""
    return os.path.splitext(name)[1].lower() in _KNOWN_SUFFIXES  # noqa: PTH122


def scan_folder(root: Path, with_image_folders: bool = False, image_folder_depth: int = 2) -> FolderFiles:
    """Finds all videos at any depth below a folder. Files with a video suffix are not opened.

    Links are followed. Folders may have any suffix.

    Args:
        root: folder to search.
        with_image_folders: whether a folder of images counts as one video: a folder `image_folder_depth` or more levels
            below `root` that has images, and neither videos by their suffix nor folders; or that is empty, and is then
            found to have no frames.
        image_folder_depth: the least depth of such a folder, at least 1; 2 leaves out the folders of classes.

    Raises:
        AnnotationError: the folder itself cannot be read, or a link leads to a folder above itself.
    """
    videos: list[str] = []
    undetermined: list[str] = []
    hidden: list[str] = []
    unreadable_folders: dict[str, str] = {}
    image_folders: set[str] = set()

    def visit(folder: str, ancestors: frozenset[str]) -> None:
        real = os.path.realpath(root / folder)
        if real in ancestors:
            raise AnnotationError(f"{root / folder}: is a link to a folder above itself; remove it")
        try:
            entries = _entries(root / folder)
        except OSError as error:
            unreadable_folders[folder] = error.strerror or str(error)
            return
        depth = folder.count("/") + 1 if folder else 0
        if with_image_folders and depth >= image_folder_depth and _are_frames(entries):
            image_folders.add(folder)
            return
        for entry in entries:
            relative = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith("."):
                hidden.append(relative)
            elif is_folder(entry):
                visit(relative, ancestors | {real})
            else:
                (videos if has_video_suffix(entry.name) else undetermined).append(relative)

    visit("", frozenset())
    if "" in unreadable_folders:
        raise AnnotationError(f"{root}: cannot be read ({unreadable_folders['']}); check its permissions")
    files = _inspect_undetermined(root, videos, undetermined, hidden, unreadable_folders)
    return files._replace(videos=sorted([*files.videos, *image_folders]), image_folders=frozenset(image_folders))


def _are_frames(entries: Sequence[os.DirEntry[str]]) -> bool:
    """Whether the entries of a folder are images and perhaps other files, but no videos and no folders; or are none."""
    visible = [entry for entry in entries if not entry.name.startswith(".")]
    return (not visible or any(has_image_suffix(entry.name) for entry in visible)) and not any(
        has_video_suffix(entry.name) or is_folder(entry) for entry in visible
    )


def scan_files(root: Path) -> FolderFiles:
    """As `scan_folder`, but without subfolders."""
    names = [entry.name for entry in visible_entries(root) if not is_folder(entry)]
    undetermined = [name for name in names if not has_video_suffix(name)]
    hidden = [entry.name for entry in _entries(root) if entry.name.startswith(".")]
    return _inspect_undetermined(root, [name for name in names if has_video_suffix(name)], undetermined, hidden, {})


def make_keys(paths: Sequence[str]) -> list[str]:
    """A key for each relative path: without suffix, other characters replaced; equal keys get a hash of the path.

    >>> make_keys(["fight/fi001.mp4", "fight/a b.mp4", "fight/a+b.mp4"])
    ['fight_fi001', 'fight_a_b-fa268767', 'fight_a_b-aed81d65']
    """
    plain = [re.sub(r"[^A-Za-z0-9_-]", "_", os.path.splitext(path)[0]) for path in paths]  # noqa: PTH122
    count = Counter(plain)
    return [
        key if count[key] == 1 else f"{key}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
        for key, path in zip(plain, paths, strict=True)
    ]


def check_video_file(path: str | os.PathLike[str]) -> None:
    """Raises DecodeError if a path cannot be a video file: it is missing, a folder, a pipe or a device."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except FileNotFoundError:
        link = Path(path).is_symlink()
        raise DecodeError("a link to a file that is not there" if link else "no such file", ABSENT) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise DecodeError(f"the file cannot be read: {_cause(error)}", UNREADABLE) from None
    if stat.S_ISDIR(mode):
        raise DecodeError("is a folder, not a video file", UNREADABLE)
    if not stat.S_ISREG(mode):
        raise DecodeError("is a pipe, socket or device, not a video file", UNREADABLE)


def read_video_bytes(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a video file.

    Raises:
        DecodeError: `ABSENT`: the file does not exist any more; or `UNREADABLE`: not a file, or it cannot be read.
    """
    check_video_file(path)
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DecodeError("no such file", ABSENT) from None
    except OSError as error:
        raise DecodeError(f"the file cannot be read: {_cause(error)}", UNREADABLE) from None


def open_video_source(path: Path, expected_size: int | None = None) -> Source:
    """The input of a decoder for a file: its bytes or, above 64 MiB, its path, so that it is not held in memory.

    Args:
        path: the path of the file.
        expected_size: the size that the file must have, in bytes; None for any.

    Raises:
        DecodeError: the file does not exist, cannot be read, or has another size.
    """
    check_video_file(path)
    size = path.stat().st_size
    if expected_size is not None and size != expected_size:
        raise DecodeError(f"the file was changed: it has {size} bytes, and had {expected_size}", UNREADABLE)
    return path if size > _MAX_READ_BYTES else read_video_bytes(path)


def _cause(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _inspect_undetermined(
    root: Path,
    videos: list[str],
    undetermined: Sequence[str],
    hidden: Sequence[str],
    unreadable_folders: dict[str, str],
) -> FolderFiles:
    """Inspects the content of the files whose suffix is inconclusive."""
    are_video = are_videos([os.path.join(root, path) for path in undetermined])  # noqa: PTH118
    groups: dict[bool | None, list[str]] = {True: videos, False: [], None: []}
    for path, kind in zip(undetermined, are_video, strict=True):
        groups[kind].append(path)
    return FolderFiles(
        sorted(groups[True]), sorted(groups[False]), sorted(hidden), sorted(groups[None]), unreadable_folders
    )
