"""Reader of what Label Studio exports of TimelineLabels, and of Choices for whole videos: JSON and JSON-MIN.

The form was verified with the documentation of the tags, the editor's `TimelineRegion.js`, and label-studio-sdk's
converter, which makes a text of a single choice in JSON-MIN, and an object of several. A range counts frames from 1,
both ends included, as the vendor's own YOLO backend reads and writes them (label-studio-ml-backend), at the `frameRate`
of the Video tag, which is not in the export and is 24 by default. The objects in `LABEL_STUDIO.example` have the form
of true exports.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from datamodules.annotations.json_lists import JsonEntry, list_entries, read_json
from datamodules.annotations.list_format import ListFormat, ListHead, require_split
from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.records import Annotations, PathLike, as_list
from datamodules.annotations.segments import Segment
from datamodules.annotations.skipped_files import count_noun
from datamodules.annotations.video_files import existing_folder, has_video_suffix, join, make_keys
from datamodules.annotations.video_lookup import VideoNameIndex, VideoQuery
from datamodules.timed_lists.timed_labels import LabelledVideo, TimedLabel, make_annotations

DEFAULT_FRAME_RATE = 24.0
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # of files uploaded to Label Studio


class _Task(NamedTuple):
    """One task with one annotation of it.

    Attributes:
        location: place in the file, for error messages.
        task: id of the task.
        video: path or URL of the video.
        created: when the annotation was made; later ones sort after earlier ones.
        regions: control -> its regions.
    """

    location: str
    task: str
    video: str
    created: str
    regions: Mapping[str, Sequence[JsonEntry]]


def read_label_studio(
    lists: PathLike | Sequence[PathLike],
    videos_root: PathLike,
    split: str | None = None,
    trimmed: bool = True,
    label_field: str | None = None,
    annotation_fps: float | None = None,
) -> Annotations:
    """Read TimelineLabels or Choices exported by Label Studio as JSON or JSON-MIN.

    Frames are taken as times at `annotation_fps`, (start - 1) / annotation_fps to end / annotation_fps seconds, because
    the player counts them at its own rate and not at the file's. Of several annotations of a task the newest counts,
    cancelled ones do not. A region with several labels gives a segment for each. Choices are labels of the whole video;
    with several, each video needs `trimmed` false, as it otherwise counts once for each. The group is the video.

    Args:
        lists: the files, such as exports of several projects.
        videos_root: folder of the videos, with the paths in the list, or with their file names at most two folders
            deeper; the eight digits that Label Studio puts before the name of an uploaded file may be missing.
        split: the split of all videos; exports have none.
        trimmed: whether each region is cut out as a video of its own; else videos are whole and have all their labels.
        label_field: name of the TimelineLabels or Choices control; needed where there are several, and for single
            choices in JSON-MIN.
        annotation_fps: the `frameRate` of the Video tag in the labelling configuration; None: 24, the default there.

    Raises:
        AnnotationError: the file is missing or malformed, `split` is missing, there are several controls and no
            `label_field`, or no video is labelled.
    """
    files = [Path(path) for path in as_list(lists)]
    path, split = files[0], require_split(files[0], split)
    entries = [(file, entry) for file in files for entry in list_entries(file, read_json(file))]
    read = [(file, task) for file, entry in entries for task in _read_entry(entry, label_field)]
    tasks = {(file, task.task): task for file, task in sorted(read, key=lambda one: one[1].created)}
    fields = sorted({field for task in tasks.values() for field in task.regions})
    field = _choose_field(path, fields, label_field)
    rate = DEFAULT_FRAME_RATE if annotation_fps is None else annotation_fps
    labels: dict[str, list[TimedLabel]] = {}
    for task in tasks.values():
        labels.setdefault(task.video, []).extend(
            label for region in task.regions.get(field, ()) for label in _read_region(region, rate)
        )
    names = list(labels)
    paths, notes = _locate(existing_folder(videos_root), names)
    if annotation_fps is None:
        notes.append(f"frames counted at {rate:g} a second, Label Studio's default; else give --annotation-fps")
    if len(tasks) < len(read):
        notes.append(f"{count_noun(len(read) - len(tasks), 'older annotation')} of the same tasks left out")
    videos = [
        LabelledVideo(video, key, split, key, labels[name])
        for name, video, key in zip(names, paths, _make_keys(names), strict=True)
    ]
    return make_annotations(videos, trimmed, path, Path(videos_root), notes=notes)


def _read_entry(entry: JsonEntry, label_field: str | None) -> Iterator[_Task]:
    """The annotations of a task in JSON, or the one of a record in JSON-MIN."""
    if "annotations" not in entry.values:
        # JSON-MIN: the task's data and the controls' values side by side.
        regions = {name: list(entry.entries(name)) for name, value in entry.values.items() if _is_timeline(value)}
        for name, value in entry.values.items():
            if isinstance(value, dict) and "choices" in value:
                regions[name] = [JsonEntry(entry.location, value)]
            elif name == label_field and isinstance(value, str):
                regions[name] = [JsonEntry(entry.location, {"choices": [value]})]
        created = str(entry.values.get("updated_at") or entry.values.get("created_at") or "")
        yield _Task(entry.location, _task_id(entry), _video(entry, entry.values), created, regions)
        return
    data = entry.values.get("data")
    if not isinstance(data, dict):
        raise entry.error("data", "must be an object with the path of the video; export the tasks again")
    video = _video(entry, data)
    for annotation in entry.entries("annotations"):
        if annotation.values.get("was_cancelled"):
            continue
        regions = {}
        for region in annotation.entries("result"):
            value = region.values.get("value")
            if isinstance(value, dict) and value.keys() & {"timelinelabels", "choices"}:
                name = str(region.values.get("from_name", ""))
                regions.setdefault(name, []).append(JsonEntry(region.location, value))
        created = str(annotation.values.get("created_at") or annotation.values.get("updated_at") or "")
        yield _Task(entry.location, _task_id(entry), video, created, regions)


def _is_timeline(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(one, dict) and "timelinelabels" in one for one in value)


def _task_id(entry: JsonEntry) -> str:
    return str(entry.values.get("id", entry.location))


def _video(entry: JsonEntry, data: Mapping[str, Any]) -> str:
    """The path or URL of the video among the values of a task, whose names are the user's own."""
    texts = {name: value for name, value in data.items() if isinstance(value, str)}
    videos = [value for value in texts.values() if has_video_suffix(_file_name(value))]
    if len(videos) != 1 and "video" in texts:
        return texts["video"]
    if len(videos) != 1:
        names = ", ".join(data) or "none"
        raise AnnotationError(f"{entry.location}: not one of its values is the path of a video (there are: {names})")
    return videos[0]


def _choose_field(path: Path, fields: Sequence[str], requested: str | None) -> str:
    if requested is not None and requested not in fields:
        raise AnnotationError(f"label_field={requested!r}: {path} has {', '.join(fields) or 'no labels'}")
    if requested is None and len(fields) > 1:
        raise AnnotationError(f"{path}: labels of several controls, {', '.join(fields)}; choose one (--label-field)")
    return requested or next(iter(fields), "")


def _read_region(region: JsonEntry, rate: float) -> Iterator[TimedLabel]:
    kind = "timelinelabels" if "timelinelabels" in region.values else "choices"
    names = region.values[kind]
    if not isinstance(names, list) or not all(isinstance(name, str) and name.strip() for name in names):
        raise region.error(kind, "must be a list of class names")
    if kind == "choices":
        yield from (TimedLabel(name.strip()) for name in names)
        return
    for one in region.entries("ranges"):
        start, end = _frame(one, "start"), _frame(one, "end")
        bounds = Segment(None if start is None else (start - 1) / rate, None if end is None else end / rate)
        for name in names:
            yield TimedLabel(name.strip(), bounds)


def _frame(entry: JsonEntry, field: str) -> float | None:
    """A frame number from 1; None where it is open."""
    value = entry.values.get(field)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise entry.error(field, "must be the number of a frame")
    return max(float(value), 1.0) if field == "start" else float(value)  # hand-made lists begin at frame 0


def _local_path(video: str) -> str:
    """The path in a URL: that below the storage's folder for local files, else the whole path without its slash."""
    parts = urlsplit(video) if re.match(r"[a-zA-Z][\w+.-]+://|/data/", video) else None
    if parts is None:
        return video
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path).lstrip("/")


def _file_name(video: str) -> str:
    return PurePosixPath(_local_path(video).replace("\\", "/")).name


def _make_keys(videos: Sequence[str]) -> list[str]:
    """Keys of the file names; of the whole paths where several videos have one name."""
    names = [_file_name(video) for video in videos]
    count = Counter(names)
    return make_keys(
        [name if count[name] == 1 else _local_path(video) for name, video in zip(names, videos, strict=True)]
    )


def _locate(root: Path, videos: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files by the paths in the list, else by their names, with and without the prefix of uploaded files."""
    files = VideoNameIndex(root)
    parts = [PurePosixPath(_local_path(video).replace("\\", "/")) for video in videos]
    bare = [_UPLOAD_PREFIX.sub("", part.stem) for part in parts]
    in_folder = files.find([VideoQuery(part.stem, "", folder=part.parent.name) for part in parts])
    whole = files.find([VideoQuery(part.stem, "") for part in parts])
    short = files.find([VideoQuery(stem, "") for stem in bare])
    paths = []
    for part, *found in zip(parts, in_folder, whole, short, strict=True):
        path = part.as_posix() if (root / part).is_file() else next(filter(None, found), part.name)
        paths.append(join(root, path))
    return paths, files.notes()


def _matches(head: ListHead) -> bool:
    first = head.first_object
    return {"annotations", "data"} <= first.keys() or any(map(_is_timeline, first.values()))


LABEL_STUDIO = ListFormat(
    "label_studio",
    "Label Studio: TimelineLabels or Choices, as JSON or JSON-MIN; --annotation-fps is the frameRate of the Video tag, "
    "--label-field the control where there are several, --split the split. Videos: by the names in the list.",
    '[{"id": 1, "data": {"video": "/data/local-files/?d=mydata/drive_data/person_01.mp4"}, "annotations": [{"result":\n'
    '[{"value": {"ranges": [{"start": 382, "end": 445}], "timelinelabels": ["right"]}, "from_name": "videoLabels",\n'
    '"to_name": "video", "type": "timelinelabels"}]}]}]',
    lambda source: read_label_studio(*source.timed_arguments, source.options.annotation_fps),
    _matches,
    options=frozenset({"split", "trimmed", "label_field", "annotation_fps"}),
)
