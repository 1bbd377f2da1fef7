"""Reader of Charades' lists: a table with the timed actions of each video, and the file of class names.

The form was verified with the data set's own README.txt, the loaders of its authors (gsig/charades-algorithms), and
Charades_v1_train.csv itself, in a public copy; the header and the two rows of `CHARADES.example` are its first lines.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from datamodules.annotations.list_format import ListFormat, ListHead, find_beside, find_list_files
from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.records import Annotations, PathLike, as_captions
from datamodules.annotations.segments import Segment
from datamodules.annotations.skipped_files import count_noun
from datamodules.annotations.tables import AnnotationRow, read_lines, read_table, refuse_repeats
from datamodules.annotations.video_files import existing_folder, make_keys
from datamodules.annotations.video_lookup import VideoQuery, locate_videos
from datamodules.timed_lists.timed_labels import LabelledVideo, TimedLabel, clamp_end, make_annotations

_FILES = {"Charades_v1_train.csv": "train", "Charades_v1_test.csv": "test"}
_COLUMNS = {"id": (), "actions": (), "length": (), "descriptions": ()}
_ACTION = re.compile(r"(\S+) +(\d+(?:\.\d+)?) +(\d+(?:\.\d+)?)")


def read_charades(
    lists: PathLike | Sequence[PathLike], videos_root: PathLike, split: str | None = None, trimmed: bool = False
) -> Annotations:
    """Read Charades v1.

    Classes are the texts in Charades_v1_classes.txt beside the list, in its order. The group is the video. Its
    `descriptions` are captions of the whole video. An action that ends after the `length` of its video is cut to it.

    A video without an action shows none of the classes. In the test split such videos are left out of whole videos, as
    the official evaluation (Charades_v1_classify.m) leaves them out.

    Args:
        lists: the files, or their folder.
        videos_root: folder of the videos, {id}.mp4, or up to two folders above it.
        split: the split of all videos; None: by the file's name.
        trimmed: whether each action is cut out as a video of its own; else videos are whole and have all their classes.

    Raises:
        AnnotationError: a file is missing, a row is malformed, a class is unknown, or a video is listed twice.
    """
    files = find_list_files(lists, _FILES, split)
    names = _read_classes(find_beside(files[0][0], ["Charades_v1_classes.txt"], "which names the classes"))
    rows = [(row, name) for path, name in files for row in read_table(path, _COLUMNS, ("id", "actions")).rows]
    ids = [row.text("id") for row, _ in rows]
    refuse_repeats(ids, [row for row, _ in rows], "video")
    root = existing_folder(videos_root)
    queries = [VideoQuery(video, "", name, ".mp4") for video, (_, name) in zip(ids, rows, strict=True)]
    paths, notes = locate_videos(root, queries, [f"{video}.mp4" for video in ids])
    videos = [
        LabelledVideo(path, key, name, key, _read_actions(row, names), _read_captions(row))
        for (row, name), path, key in zip(rows, paths, make_keys(ids), strict=True)
    ]
    if not trimmed:
        tested = [video for video in videos if video.labels or video.split != "test"]
        if len(tested) < len(videos):
            left_out = count_noun(len(videos) - len(tested), "test video")
            notes.append(f"{left_out} without an action left out, as in the official evaluation")
        videos = tested
    return make_annotations(videos, trimmed, files[0][0], root, list(names.values()), notes)


def _read_classes(path: Path) -> dict[str, str]:
    """Code -> text of each class, in the order of the file."""
    names: dict[str, str] = {}
    for number, line in read_lines(path):
        code, _, name = line.partition(" ")
        if not name.strip() or code in names or name.strip() in names.values():
            raise AnnotationError(f"{path}, line {number}: {line!r}: must be a code and a text, each not named before")
        names[code] = name.strip()
    return names


def _read_actions(row: AnnotationRow, names: dict[str, str]) -> list[TimedLabel]:
    length = row.seconds("length") if row.values.get("length", "").strip() else None
    labels = []
    for part in filter(None, (part.strip() for part in row.values["actions"].split(";"))):
        match = _ACTION.fullmatch(part)
        if match is None or match[1] not in names:
            raise row.error("actions", f"{part!r} must be a class of Charades_v1_classes.txt, its start and its end")
        bounds = Segment(float(match[2]), clamp_end(float(match[2]), float(match[3]), length))
        labels.append(TimedLabel(names[match[1]], bounds))
    return labels


def _read_captions(row: AnnotationRow) -> tuple[str, ...]:
    return as_captions(row.values.get("descriptions", "").split(";"))


def _matches(head: ListHead) -> bool:
    named = any(name in _FILES for name in head.names)
    return named or {"id", "subject", "scene", "actions", "length"} <= set(head.header)


CHARADES = ListFormat(
    "charades",
    "Charades: Charades_v1_train.csv and Charades_v1_test.csv, or their folder, with Charades_v1_classes.txt beside "
    "them; whole videos with several labels, or with --trimmed each action as a video. Videos: {id}.mp4.",
    "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
    "46GP8,HR43,Kitchen,6,7,Yes,A person cooking on a stove while watching something out a window.,food;stove;window,"
    "A person cooks food on a stove before looking out of a window.,c092 11.90 21.20;c147 0.00 12.60,24.83\n"
    'N11GT,0KZ7,Stairs,6,7,Yes,"One person opens up a folded blanket, then sneezes and leaves the stairs with a '
    'broom.",blanket;broom;floor,"Person at the bottom of the staircase shakes a blanket out, folds it, grabs a broom, '
    'and walks down the hallway.",c098 8.60 14.20;c075 0.00 11.70;c127 0.00 15.20;c153 6.40 12.10,18.33',
    lambda source: read_charades(source.paths, source.videos, source.split, bool(source.options.trimmed)),
    _matches,
    options=frozenset({"split", "trimmed"}),
)
