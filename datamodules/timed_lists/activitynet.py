"""Reader of lists in ActivityNet's json form: ActivityNet 1.3, HACS Segments, and THUMOS'14 converted to it.

The form of ActivityNet was verified with its download page and its own parser (ActivityNetParser.py), that of HACS with
its README; THUMOS'14 has no official json, and the conversions of lzszq and of ActionFormer are read. The objects in
the examples are true.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.annotations.json_lists import JsonEntry, keyed_entries, read_json
from datamodules.annotations.list_format import ListFormat, ListHead, ListSource
from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.records import Annotations, PathLike, agree_on_split, as_list, normalize_split
from datamodules.annotations.segments import Segment
from datamodules.annotations.skipped_files import count_noun, join_first_names
from datamodules.annotations.video_files import existing_folder, join, make_keys
from datamodules.annotations.video_lookup import VideoNameIndex, VideoQuery
from datamodules.timed_lists.timed_labels import LabelledVideo, TimedLabel, clamp_end, make_annotations

_THUMOS14_NAME = re.compile(r"video_(?:validation|test)_\d+")
_AMBIGUOUS = "Ambiguous"  # THUMOS'14's mark of segments that are neither an action nor none


def read_activitynet(
    lists: PathLike | Sequence[PathLike],
    videos_root: PathLike,
    split: str | None = None,
    trimmed: bool = True,
    split_names: Mapping[str, str] | None = None,
) -> Annotations:
    """Read a list in ActivityNet's json form: {"database": {id: {subset, duration, annotations}}}, or its inner object.

    Videos without annotations are left out: those of the subset `testing`, whose labels are withheld, among them. The
    group is the video. A segment that ends after the `duration` of its video is cut to it; segments labelled
    `Ambiguous` are left out.

    Args:
        lists: the files.
        videos_root: folder of the videos, v_{id} or {id} with any suffix, or up to two folders above it; folders named
            after classes (HACS) may be between.
        split: the split of all videos; None: from `subset` (training, validation, testing).
        trimmed: whether each segment is cut out as a video of its own; else videos are whole and have all their labels.
        split_names: subset -> split, where it is not the usual one.

    Raises:
        AnnotationError: a file is missing or malformed, or has no labelled video.
    """
    entries: dict[str, JsonEntry] = {}
    for path in map(Path, as_list(lists)):
        for video, entry in _read_database(path).items():
            if video in entries:
                raise AnnotationError(f"{entry.location}: the video is in {entries[video].location} too; keep one")
            entries[video] = entry
    labels = {video: _read_segments(entry) for video, entry in entries.items()}
    labelled = [video for video in entries if labels[video]]
    empty = [video for video in entries if not labels[video]]
    paths, notes = _locate(existing_folder(videos_root), {video: labels[video][0].label for video in labelled})
    if empty:
        notes.append(f"{count_noun(len(empty), 'video')} without annotations left out: {join_first_names(empty)}")
    given = None if split is None else normalize_split(split)
    splits = [_read_split(entries[video], split_names or {}, given) for video in labelled]
    keys = make_keys(labelled)
    videos = [
        LabelledVideo(path, key, name, key, labels[video])
        for video, path, key, name in zip(labelled, paths, keys, splits, strict=True)
    ]
    return make_annotations(videos, trimmed, Path(as_list(lists)[0]), Path(videos_root), notes=notes)


def _read_database(path: Path) -> dict[str, JsonEntry]:
    content = read_json(path)
    return keyed_entries(path, content["database"] if isinstance(content, dict) and "database" in content else content)


def _read_split(entry: JsonEntry, split_names: Mapping[str, str], given: str | None) -> str:
    if given is not None and "subset" not in entry.values:
        return given
    name = normalize_split(entry.text("subset"), f"{entry.location}: ")
    return agree_on_split(split_names.get(name, name), given, entry.location, "remove subset from the list")


def _read_segments(entry: JsonEntry) -> list[TimedLabel]:
    duration = _read_duration(entry)
    labels = []
    for one in entry.entries("annotations"):
        label, (start, end) = one.text("label"), one.interval("segment")
        if label != _AMBIGUOUS:
            labels.append(TimedLabel(label, Segment(start, clamp_end(start, end, duration))))
    return labels


def _read_duration(entry: JsonEntry) -> float | None:
    """Seconds; None where they are missing. HACS writes them as a text."""
    value: Any = entry.values.get("duration")
    try:
        return None if value in (None, "") else float(value)
    except (TypeError, ValueError):
        raise entry.error("duration", "must be a number of seconds") from None


def _locate(root: Path, labels: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The path of each video, and sentences on the choices; v_{id}.mp4 for a video that is not there."""
    files = VideoNameIndex(root)
    names = {video: video if video.startswith("v_") else f"v_{video}" for video in labels}
    found = files.find([VideoQuery(names[video], label) for video, label in labels.items()])
    bare = files.find([VideoQuery(video.removeprefix("v_"), label) for video, label in labels.items()])
    paths = [
        first or second or (f"{video}.mp4" if _THUMOS14_NAME.fullmatch(video) else f"{names[video]}.mp4")
        for video, first, second in zip(labels, found, bare, strict=True)
    ]
    return [join(root, path) for path in paths], files.notes()


def _database(head: ListHead) -> Mapping[str, Any]:
    """The videos in a list of the form; {} for another list."""
    content = head.content
    inner = content.get("database", content) if isinstance(content, dict) else {}
    first = next(iter(inner.values()), None) if isinstance(inner, dict) else None
    fits = isinstance(first, dict) and isinstance(first.get("annotations"), list) and "subset" in first
    return inner if fits else {}


def _matches_thumos14(head: ListHead) -> bool:
    return _THUMOS14_NAME.fullmatch(next(iter(_database(head)), "")) is not None


def _matches_hacs(head: ListHead) -> bool:
    return head.path.name.startswith("HACS_segments") and bool(_database(head))


def _read(source: ListSource) -> Annotations:
    return read_activitynet(source.paths, source.videos, source.split, source.options.trimmed is not False)


def _read_thumos14(source: ListSource) -> Annotations:
    """As `_read`; the subset `validation` is the one that THUMOS'14 trains on."""
    trimmed = source.options.trimmed is not False
    return read_activitynet(source.paths, source.videos, source.split, trimmed, {"val": "train"})


_OPTIONS = frozenset({"split", "trimmed"})
ACTIVITYNET = ListFormat(
    "activitynet",
    "ActivityNet 1.3: activity_net.v1-3.min.json; each segment is a video, or with --trimmed false whole videos have "
    "the labels of all their segments. Videos: v_{id}.mp4.",
    '{"database": {"5n7NCViB5TU": {"annotations": [{"label": "Discus throw", "segment": [24.25018, 38.08036]},\n'
    '{"label": "Discus throw", "segment": [97.00073, 106.284]}], "duration": 121.44, "resolution": "320x240",\n'
    '"subset": "training", "url": "https://www.youtube.com/watch?v=5n7NCViB5TU"}}}',
    _read,
    lambda head: bool(_database(head)),
    options=_OPTIONS,
)
HACS = ListFormat(
    "hacs",
    "HACS Segments: HACS_segments_v1.1.1.json, in ActivityNet's form. Videos: {Class_name}/v_{id}.mp4.",
    '{"database": {"--0edUL8zmA": {"annotations": [{"label": "Dodgeball", "segment": [5.40, 11.60]},\n'
    '{"label": "Dodgeball", "segment": [12.60, 88.16]}], "subset": "training",\n'
    '"duration": "92.166667", "url": "https://www.youtube.com/watch?v=--0edUL8zmA"}}}',
    _read,
    _matches_hacs,
    options=_OPTIONS,
)
THUMOS14 = ListFormat(
    "thumos14",
    "THUMOS'14, in ActivityNet's form with or without the level `database`; the subset validation, on which THUMOS'14 "
    "trains, is the split train. Videos: video_validation_{n}.mp4 and video_test_{n}.mp4.",
    '{"video_test_0000006": {"duration": 66.97, "subset": "test", "annotations": [{"segment": [18.8, 57.3],\n'
    '"label": "VolleyballSpiking"}]}, "video_validation_0000950": {"duration": 20.1, "subset": "validation",\n'
    '"annotations": [{"segment": [4.9, 9.2], "label": "ThrowDiscus"}]}}',
    _read_thumos14,
    _matches_thumos14,
    options=_OPTIONS,
)
