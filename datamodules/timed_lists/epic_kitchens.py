"""Reader of EPIC-KITCHENS-100's lists: segments of long videos with a verb and a noun.

The form was verified with the README of the data set's annotations (epic-kitchens/epic-kitchens-100-annotations); the
rows of `EPIC_KITCHENS.example` are true.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from datamodules.annotations.list_format import ListFormat, ListHead, find_beside, find_list_files
from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.records import Annotations, PathLike, as_captions
from datamodules.annotations.segments import Segment, parse_clock_time
from datamodules.annotations.skipped_files import count_noun
from datamodules.annotations.tables import AnnotationRow, read_table, refuse_repeats
from datamodules.annotations.video_files import existing_folder, make_keys
from datamodules.annotations.video_lookup import VideoQuery, locate_videos
from datamodules.timed_lists.timed_labels import LabelledVideo, TimedLabel, make_annotations

EpicLabel = Literal["action", "verb", "noun"]
_FILES = {
    "EPIC_100_train.csv": "train",
    "EPIC_100_validation.csv": "val",
    "EPIC_100_test_timestamps.csv": "test",
}
_REQUIRED = ("narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp")
_COLUMNS = dict.fromkeys((*_REQUIRED, "narration", "verb_class", "noun_class"), ())
_CLASS_COLUMNS = {"id": (), "key": ()}


def read_epic_kitchens(
    lists: PathLike | Sequence[PathLike],
    videos_root: PathLike,
    split: str | None = None,
    trimmed: bool = True,
    label_field: str | None = None,
) -> Annotations:
    """Read EPIC-KITCHENS-100.

    Classes are the keys of EPIC_100_verb_classes.csv and EPIC_100_noun_classes.csv beside the lists, in their order; an
    action is the pair of both, such as `close door`, and only pairs that occur are classes. The key is the
    narration_id, the caption the narration, the group the participant. The test list has no classes: its segments have
    no label.

    Args:
        lists: the files EPIC_100_train.csv, EPIC_100_validation.csv, EPIC_100_test_timestamps.csv, or their folder.
        videos_root: folder of the videos, {participant_id}/videos/{video_id}.MP4 with any suffix, or flat.
        split: the split of all segments; None: by the file's name.
        trimmed: whether each segment is cut out as a video of its own; else videos are whole and have all their
            classes.
        label_field: `verb`, `noun` or `action`; None: `action`.

    Raises:
        AnnotationError: a file is missing, a row is malformed, a class is unknown, or a segment is listed twice.
    """
    if label_field not in (None, *get_args(EpicLabel)):
        raise AnnotationError(f"label_field={label_field!r}: must be action, verb or noun")
    files = find_list_files(lists, _FILES, split)
    rows = [(row, name) for path, name in files for row in read_table(path, _COLUMNS, _REQUIRED).rows]
    refuse_repeats([row.text("narration_id") for row, _ in rows], [row for row, _ in rows], "segment")
    labelled = [row for row, _ in rows if "verb_class" in row.values]
    field = label_field or "action"
    name_class, classes = _classes(files[0][0], field, labelled) if labelled else (lambda row: "", [])
    keys = make_keys([row.values["narration_id"].strip() for row, _ in rows])
    segments: dict[tuple[str, str, str], list[TimedLabel]] = {}
    for (row, name), key in zip(rows, keys, strict=True):
        label = name_class(row) if "verb_class" in row.values else ""
        bounds = Segment(_seconds(row, "start_timestamp"), _seconds(row, "stop_timestamp"))
        video = row.text("video_id"), row.text("participant_id"), name
        segments.setdefault(video, []).append(
            TimedLabel(label, bounds, key, as_captions(row.values.get("narration", "")))
        )
    videos, notes = _locate(existing_folder(videos_root), segments)
    if len(labelled) < len(rows):
        unlabelled = count_noun(len(rows) - len(labelled), "segment")
        notes.append(f"{unlabelled} of a list without classes packed without a label")
    return make_annotations(videos, trimmed, files[0][0], Path(videos_root), classes, notes)


def _locate(
    root: Path, segments: dict[tuple[str, str, str], list[TimedLabel]]
) -> tuple[list[LabelledVideo], list[str]]:
    queries = [VideoQuery(video, "", name, ".MP4") for video, _, name in segments]
    defaults = [f"{participant}/videos/{video}.MP4" for video, participant, _ in segments]
    paths, notes = locate_videos(root, queries, defaults)
    keys = make_keys([video for video, _, _ in segments])
    videos = [
        LabelledVideo(path, key, name, participant, labels)
        for ((_, participant, name), labels), path, key in zip(segments.items(), paths, keys, strict=True)
    ]
    return videos, notes


def _classes(path: Path, field: str, rows: Sequence[AnnotationRow]) -> tuple[Callable[[AnnotationRow], str], list[str]]:
    """A function from a row to its class, and the classes in order."""
    names = {
        part: _read_class_names(find_beside(path, [f"EPIC_100_{part}_classes.csv"], f"which names the {part}s"))
        for part in (("verb", "noun") if field == "action" else (field,))
    }

    def numbers(row: AnnotationRow) -> tuple[int, ...]:
        return tuple(_class_number(row, f"{part}_class", len(listed)) for part, listed in names.items())

    def name_class(row: AnnotationRow) -> str:
        return " ".join(listed[number] for listed, number in zip(names.values(), numbers(row), strict=True))

    if field != "action":
        return name_class, names[field]
    pairs = sorted({numbers(row) for row in rows})
    return name_class, [f"{names['verb'][verb]} {names['noun'][noun]}" for verb, noun in pairs]


def _read_class_names(path: Path) -> list[str]:
    rows = read_table(path, _CLASS_COLUMNS, ("id", "key")).rows
    names = [row.text("key") for row in rows]
    if [row.text("id") for row in rows] != [str(number) for number in range(len(rows))] or len(set(names)) < len(names):
        raise AnnotationError(f"{path}: must list each class once, numbered from 0; use the official file")
    return names


def _class_number(row: AnnotationRow, column: str, count: int) -> int:
    value = row.text(column) if column in row.values else ""
    if not value.isdecimal() or int(value) >= count:
        raise row.error(column, f"must be the number of a class, 0 to {count - 1}")
    return int(value)


def _seconds(row: AnnotationRow, column: str) -> float:
    time = parse_clock_time(row.text(column))
    if time is None:
        raise row.error(column, "must be a time such as 00:01:23.45")
    return time


def _matches(head: ListHead) -> bool:
    named = any(name in _FILES for name in head.names)
    return named or {"narration_id", "video_id", "start_timestamp"} <= set(head.header)


EPIC_KITCHENS = ListFormat(
    "epic_kitchens",
    "EPIC-KITCHENS-100: EPIC_100_train.csv, EPIC_100_validation.csv and EPIC_100_test_timestamps.csv, or their folder, "
    "with EPIC_100_verb_classes.csv and EPIC_100_noun_classes.csv beside them; --label-field is verb, noun or action. "
    "Videos: {participant_id}/videos/{video_id}.MP4.",
    "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,start_frame,stop_frame,"
    "narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes\n"
    "P01_01_0,P01,P01_01,00:00:01.089,00:00:00.14,00:00:03.37,8,202,open door,open,3,door,3,['door'],[3]\n"
    "P01_01_1,P01,P01_01,00:00:02.629,00:00:04.37,00:00:06.17,262,370,turn on light,turn-on,6,light,114,['light'],"
    "[114]",
    lambda source: read_epic_kitchens(*source.timed_arguments),
    _matches,
    options=frozenset({"split", "trimmed", "label_field"}),
)
