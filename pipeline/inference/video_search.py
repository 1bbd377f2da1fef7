"""`find_videos`: the video files that a command line names, one by one or by their folders."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from datamodules.annotations.skipped_files import describe_skipped_files
from datamodules.annotations.video_files import scan_folder
from pipeline.cli.terminal import print_text


def find_videos(videos: Sequence[str]) -> Iterator[Path]:
    """Yields the given files, and the videos of the given folders, without opening them: they may be broken links.

    A folder that cannot be read or has no video is yielded itself; files of a folder that are no videos are reported on
    standard error.

    Raises:
        FileNotFoundError: none of the files and folders exists, or the only one is a folder without a video.
    """
    if not any(map(os.path.exists, videos)):
        raise FileNotFoundError(f"videos={videos[0] if videos else ''}: there is no such file or folder")
    for path in map(Path, videos):
        if not os.path.isdir(path):  # noqa: PTH112 - False, not an error, without permission
            yield path
            continue
        files = scan_folder(path)
        left_out = describe_skipped_files(files)
        found = [path / name for name in (*files.videos, *files.unreadable_folders)]
        if not found and len(videos) == 1:
            raise FileNotFoundError(f"videos={path}: no video in this folder{f' ({left_out})' if left_out else ''}")
        if left_out:
            print_text(f"warning: {path}: {left_out}", sys.stderr)
        yield from found or [path]


def common_folder(videos: Sequence[str]) -> Path:
    """The deepest folder that has all the given files and folders in it, or is the only one of them."""
    folders = [path if os.path.isdir(path) else os.path.dirname(path) for path in map(os.path.abspath, videos)]  # noqa: PTH112, PTH120
    return Path(os.path.commonpath(folders))
