"""Reader of Diving48's lists, V2 and V1: a JSON list of clips, and the vocabulary of 48 dives.

The form was verified with the quotations of the official files in public READMEs and mmaction2's documentation; the
first two lines of `DIVING48.example` are true, the third has the same form.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from datamodules.annotations.json_lists import list_entries, read_json
from datamodules.annotations.list_format import ListFormat, ListHead, find_beside, find_list_files
from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.records import Annotations, PathLike, VideoRecord
from datamodules.annotations.tables import AnnotationRow, refuse_repeats
from datamodules.annotations.video_files import existing_folder, make_keys
from datamodules.annotations.video_lookup import VideoQuery, locate_videos

_FILES = {
    "Diving48_V2_train.json": "train",
    "Diving48_V2_test.json": "test",
    "Diving48_train.json": "train",
    "Diving48_test.json": "test",
}
_CLIP_NAME = re.compile(r"(.+)_\d+")  # {youtube_id}_{n}


def read_diving48(lists: PathLike | Sequence[PathLike], videos_root: PathLike, split: str | None = None) -> Annotations:
    """Read Diving48.

    A file is one dive, cut already: `start_frame` and `end_frame` are not read. A class is the four parts of a dive
    (takeoff, somersault, twist, position) joined by underscores, such as Back_15som_05Twis_FREE. The group is the
    source video, {youtube_id} of {youtube_id}_{n}.

    Args:
        lists: the files, or their folder, with Diving48_vocab.json; V2 takes precedence over V1 in a folder.
        videos_root: folder of the videos, {vid_name}.mp4, or up to two folders above it.
        split: the split of all videos; None: by the file's name.

    Raises:
        AnnotationError: a file is missing or malformed, a label is not in the vocabulary, or a video is listed twice.
    """
    files = find_list_files(lists, _FILES, split)
    if any("_V2_" in path.name for path, _ in files):
        files = [(path, name) for path, name in files if "_V2_" in path.name]
    classes = _read_classes(
        find_beside(files[0][0], ("Diving48_vocab.json", "Diving48_V2_vocab.json"), "which names the classes")
    )
    rows, labels, splits = [], [], []
    for path, name in files:
        for number, entry in enumerate(list_entries(path, read_json(path)), 1):
            label = entry.integer("label")
            if label >= len(classes):
                raise entry.error("label", f"is not in the vocabulary, whose last is {len(classes) - 1}")
            rows.append(AnnotationRow(str(path), number, {"vid_name": entry.text("vid_name")}))
            labels.append(classes[label])
            splits.append(name)
    names = [row.values["vid_name"] for row in rows]
    refuse_repeats(names, rows, "video")
    root = existing_folder(videos_root)
    queries = [VideoQuery(name, label, suffix=".mp4") for name, label in zip(names, labels, strict=True)]
    paths, notes = locate_videos(root, queries, [f"{name}.mp4" for name in names])
    matches = [_CLIP_NAME.fullmatch(name) for name in names]
    groups = [match[1] if match else name for name, match in zip(names, matches, strict=True)]
    records = [VideoRecord(*fields) for fields in zip(paths, make_keys(names), labels, splits, groups, strict=True)]
    return Annotations(records, classes=tuple(classes), notes=tuple(notes))


def _read_classes(path: Path) -> list[str]:
    content = read_json(path)
    rows = content if isinstance(content, list) else []
    if not rows or not all(
        isinstance(row, list) and row and all(isinstance(part, str) for part in row) for row in rows
    ):
        raise AnnotationError(f"{path}: must be a JSON list with a list of texts for each class; use the official file")
    classes = ["_".join(row) for row in rows]
    if len(set(classes)) < len(classes):
        repeated = next(name for name in classes if classes.count(name) > 1)
        raise AnnotationError(f"{path}: class {repeated!r} is listed twice; use the official file")
    return classes


def _matches(head: ListHead) -> bool:
    return any(name in _FILES for name in head.names) or {"vid_name", "label"} <= head.first_object.keys()


DIVING48 = ListFormat(
    "diving48",
    "Diving48: Diving48_V2_train.json and Diving48_V2_test.json, or their folder, with Diving48_vocab.json beside "
    "them. Videos: {vid_name}.mp4, flat or in a folder rgb.",
    '{"vid_name":"-mmq0PT-u8k_00155","label":0,"start_frame":0,"end_frame":48}\n'
    '{"vid_name":"-mmq0PT-u8k_00156","label":0,"start_frame":0,"end_frame":70}\n'
    '{"vid_name":"-mmq0PT-u8k_00157","label":0,"start_frame":0,"end_frame":62}',
    lambda source: read_diving48(source.paths, source.videos, source.split),
    _matches,
)
