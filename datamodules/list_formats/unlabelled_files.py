"""Format `files`: any folder of videos without labels."""

from pathlib import Path

from datamodules.annotations.list_format import ListFormat
from datamodules.annotations.records import (
    ALL_VIDEOS,
    Annotations,
    PathLike,
    VideoRecord,
    infer_group,
    normalize_split,
)
from datamodules.annotations.refusals import BAD_NAME, Refusal
from datamodules.annotations.skipped_files import describe_skipped_files
from datamodules.annotations.tables import AnnotationError
from datamodules.annotations.video_files import existing_folder, is_text, join, make_keys, scan_folder


def read_unlabelled_files(
    root: PathLike, split: str | None = None, frames_per_second: float | None = None
) -> Annotations:
    """Reads all videos at any depth below a folder, as videos without labels, sorted by path.

    Names as in UCF101 and Kinetics give the group, as in class folders; any other video is its own group. Videos whose
    name is not UTF-8 are in `refused`.

    Args:
        root: folder to read.
        split: the split of all videos; None: `all`.
        frames_per_second: read folders of images as videos of this rate; None: images are no videos.

    Raises:
        AnnotationError: a folder is missing or cannot be read, or there is no video.
    """
    folder = existing_folder(root)
    split = ALL_VIDEOS if split is None else normalize_split(split)
    files = scan_folder(folder, frames_per_second is not None, image_folder_depth=1)
    if files.unreadable_folders:
        unreadable, reason = next(iter(sorted(files.unreadable_folders.items())))
        raise AnnotationError(f"{folder / unreadable}: cannot be read ({reason}); check its permissions")
    records, refused = [], []
    for path, key in zip(files.videos, make_keys(files.videos), strict=True):
        if not is_text(path):
            refused.append(Refusal(path, key, BAD_NAME, "the name is not UTF-8; rename the file or folder"))
            continue
        rate = frames_per_second if path in files.image_folders else None
        group = infer_group(path, key)
        records.append(VideoRecord(join(folder, path), key, "", split, group, frames_per_second=rate))
    left_out = describe_skipped_files(files)
    if not records:
        raise AnnotationError(f"{folder}: has no video{f' ({left_out})' if left_out else ''}")
    return Annotations(records, refused=tuple(refused), notes=(left_out,) if left_out else ())


UNLABELLED_FILES = ListFormat(
    "files",
    "Any folder of videos at any depth, without a list and without labels; all are of the split `all`, or of --split.",
    "my_videos/fi001.mp4\nmy_videos/2024/fi002.mp4\nmy_videos/2024/june/fi003.mp4",
    lambda source: read_unlabelled_files(Path(source.videos), source.split, source.options.frames_per_second),
)
