"""Reader of Jester V1's lists: lines `id;class`, and a folder of images for each video.

The form was verified with mmaction2's `parse_jester_splits` and a public copy of jester-v1-labels.csv; the first line
of `JESTER.example` is that of the official training list, the two others have the same form. That the frames were
extracted at 12 frames per second is commonly stated, and is in no file of the data set.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from datamodules.annotations.list_format import ListFormat, ListHead, find_list_files
from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.records import Annotations, PathLike, VideoRecord
from datamodules.annotations.skipped_files import count_noun
from datamodules.annotations.tables import AnnotationRow, read_lines, refuse_repeats
from datamodules.annotations.video_files import existing_folder, join, make_keys
from datamodules.annotations.video_lookup import VideoNameIndex, VideoQuery

FRAMES_PER_SECOND = 12.0
_PREFIX = "jester-v1-"  # of the first release
_NAMES = {"train.csv": "train", "validation.csv": "val", "test.csv": "test", "test-answers.csv": "test"}
_FILES = _NAMES | {f"{_PREFIX}{name}": split for name, split in _NAMES.items()}
_LABELS = ("labels.csv", f"{_PREFIX}labels.csv")
_FOLDER = "20bn-jester-v1"


def read_jester(
    lists: PathLike | Sequence[PathLike],
    videos_root: PathLike,
    split: str | None = None,
    frames_per_second: float = FRAMES_PER_SECOND,
) -> Annotations:
    """Read Jester V1.

    Classes are in the order of jester-v1-labels.csv (or labels.csv), if it is beside the lists. test.csv, lines of an
    id alone, has no classes: its videos have no label, unless test-answers.csv is read in its place. Groups are the
    videos, as the lists do not name the people in them.

    Args:
        lists: the files, or their folder; with test-answers.csv in the folder, test.csv is not read.
        videos_root: the folder 20bn-jester-v1 or the one above it, with a folder {id} of images, or a video file of
            that name, for each video.
        split: the split of all videos; None: by the file's name (train, validation, test).
        frames_per_second: rate of the folders of images.

    Raises:
        AnnotationError: a file is missing, a line is malformed, a class is not in the list of labels, or a video is
            listed twice.
    """
    files = find_list_files(lists, _FILES, split)
    if any(path.name.endswith("test-answers.csv") for path, _ in files):
        files = [(path, name) for path, name in files if not path.name.endswith("test.csv")]
    classes = _read_classes(files[0][0].parent)
    rows = [(row, name) for path, name in files for row in _read_lines(path, classes)]
    ids = [row.values["video"] for row, _ in rows]
    refuse_repeats(ids, [row for row, _ in rows], "video")
    root = existing_folder(videos_root)
    root = root / _FOLDER if (root / _FOLDER).is_dir() else root
    found = VideoNameIndex(root, depth=0).find([VideoQuery(video, "") for video in ids])
    records = [
        VideoRecord(
            join(root, path or video),
            key,
            row.values["label"],
            name,
            key,
            frames_per_second=None if path else frames_per_second,
        )
        for (row, name), video, path, key in zip(rows, ids, found, make_keys(ids), strict=True)
    ]
    unlabelled = sum(not record.label for record in records)
    note = f"{count_noun(unlabelled, 'video')} of a list without classes packed without a label"
    return Annotations(records, classes=tuple(classes), notes=(note,) if unlabelled else ())


def _read_classes(folder: Path) -> list[str]:
    """Class names in the official order; [] without the file."""
    found = [folder / name for name in _LABELS if (folder / name).exists()]
    return [line for _, line in read_lines(found[0])] if found else []


def _read_lines(path: Path, classes: Sequence[str]) -> list[AnnotationRow]:
    rows = []
    for number, line in read_lines(path):
        video, _, label = (part.strip() for part in line.partition(";"))
        if re.fullmatch(r"\d+", video, re.ASCII) is None:
            raise AnnotationError(
                f"{path}, line {number}: {line!r}: must be the number of a video, and ; and its class"
            )
        row = AnnotationRow(str(path), number, {"video": video, "label": label})
        if label and classes and label not in classes:
            raise row.error("label", "is not in the list of labels beside the list; use the official files")
        rows.append(row)
    missing = [row for row in rows if not row.values["label"]]
    if missing and len(missing) < len(rows):
        raise missing[0].error("label", "is empty, while other lines have a class; give every video one")
    return rows


def _matches(head: ListHead) -> bool:
    return any(name.startswith(_PREFIX) and name.removeprefix(_PREFIX) in (*_NAMES, *_LABELS) for name in head.names)


JESTER = ListFormat(
    "jester",
    "Jester V1: train.csv, validation.csv and test.csv (or test-answers.csv), or their folder, with labels.csv beside "
    "them, or with the prefix jester-v1-. Videos: folders of images, {id}/00001.jpg and so on, at 12 frames a second.",
    "34870;Drumming Fingers\n56557;Sliding Two Fingers Right\n129112;Sliding Two Fingers Down",
    lambda source: read_jester(
        source.paths, source.videos, source.split, source.options.frames_per_second or FRAMES_PER_SECOND
    ),
    _matches,
)
