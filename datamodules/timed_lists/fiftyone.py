"""Reader of what FiftyOne exports as FiftyOneTemporalDetectionDataset.

The form was verified with FiftyOne's user guide and its importer and exporter (fiftyone 1.22.1, utils/data), and eta's
`frameutils`. The objects in `FIFTYONE.example` follow the schema of the guide.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datamodules.annotations.json_lists import JsonEntry, keyed_texts, read_json
from datamodules.annotations.list_format import ListFormat, ListHead, require_split
from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.records import Annotations, PathLike
from datamodules.annotations.segments import Segment, parse_clock_time
from datamodules.annotations.video_files import existing_folder, join, make_keys
from datamodules.annotations.video_lookup import VideoQuery, locate_videos
from datamodules.timed_lists.timed_labels import LabelledVideo, TimedLabel, make_annotations


def read_fiftyone(
    list_path: PathLike, videos_root: PathLike, split: str | None = None, trimmed: bool = True
) -> Annotations:
    """Read labels.json of a FiftyOneTemporalDetectionDataset.

    `support` counts frames from 1, both ends included. `timestamps` are seconds, or HH:MM:SS.XXX; FiftyOne stretches
    times such that the last frame lies at the end of the video, so they are exact to one frame. Where `classes` is
    given, labels are positions in it. The group is the video.

    Args:
        list_path: labels.json, or its folder.
        videos_root: the folder with data/, or data/ itself; paths in data.json beside the list take precedence.
        split: the split of all videos; exports have none.
        trimmed: whether each detection is cut out as a video of its own; else videos are whole and have all their
            labels.

    Raises:
        AnnotationError: the file is missing or malformed, `split` is missing, or no video is labelled.
    """
    path = Path(list_path)
    path = path / "labels.json" if path.is_dir() else path
    split = require_split(path, split)
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("labels"), dict) or not content["labels"]:
        raise AnnotationError(f"{path}: must be an object with labels of each video; export the dataset again")
    classes = content.get("classes") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise AnnotationError(f"{path}: classes must be a list of names, or null; export the dataset again")
    labels = {
        name: [_read_detection(one, classes) for one in _detections(path, name, value)]
        for name, value in content["labels"].items()
    }
    paths, notes = _locate(path, existing_folder(videos_root), list(labels))
    keys = make_keys([Path(name).as_posix().lstrip("/") for name in labels])
    videos = [
        LabelledVideo(video, key, split, key, labels[name])
        for name, video, key in zip(labels, paths, keys, strict=True)
    ]
    used = {label.label for parts in labels.values() for label in parts}
    return make_annotations(videos, trimmed, path, Path(videos_root), classes if used <= set(classes) else (), notes)


def _detections(path: Path, name: str, value: Any) -> Iterator[JsonEntry]:
    yield from JsonEntry(str(path), {name: value}).entries(name)


def _read_detection(entry: JsonEntry, classes: Sequence[str]) -> TimedLabel:
    label = entry.values.get("label")
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(classes):
        name = classes[label]
    elif isinstance(label, int) and classes:
        raise entry.error("label", f"must be the position of a class, 0 to {len(classes) - 1}")
    else:
        name = entry.text("label")
    if entry.values.get("support") is not None:
        first, last = entry.interval("support")
        return TimedLabel(name, Segment(start_frame=int(first) - 1, end_frame=int(last)))
    return TimedLabel(name, Segment(*_timestamps(entry)))


def _timestamps(entry: JsonEntry) -> tuple[float, float]:
    value = entry.values.get("timestamps")
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        times = [parse_clock_time(one) for one in value]
        if None not in times:
            return JsonEntry(entry.location, {"timestamps": times}).interval("timestamps")
    return entry.interval("timestamps")


def _locate(path: Path, root: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Files by the manifest data.json, else by the names in the list, which may have folders.

    The names in a manifest may have suffixes, which FiftyOne's importer does not look at.
    """
    folder = root / "data" if (root / "data").is_dir() else root
    manifest = path.parent / "data.json"
    listed = keyed_texts(manifest, read_json(manifest)) if manifest.exists() else {}
    listed = {os.path.splitext(name)[0]: path for name, path in listed.items()} | listed  # noqa: PTH122
    missing = [name for name in names if name not in listed]
    parts = [Path(name) for name in missing]
    below = [part.parent.as_posix() if not part.is_absolute() and part.parent != Path() else "" for part in parts]
    queries = [
        VideoQuery(part.stem if part.is_absolute() else part.name, "", folder=place)
        for part, place in zip(parts, below, strict=True)
    ]
    found, notes = locate_videos(folder, queries, [f"{name}.mp4" for name in missing], depth=4)
    paths = dict(zip(missing, found, strict=True)) | {
        name: join(folder, listed[name]) for name in names if name in listed
    }
    return [paths[name] for name in names], notes


def _matches(head: ListHead) -> bool:
    content = head.content
    return isinstance(content, dict) and {"classes", "labels"} <= content.keys() and isinstance(content["labels"], dict)


FIFTYONE = ListFormat(
    "fiftyone",
    "FiftyOne: labels.json of a FiftyOneTemporalDetectionDataset; --split is the split. Videos: data/{name} beside it.",
    '{"classes": ["wave", "run"], "labels": {\n'
    '"video1": [{"label": 0, "support": [1, 40]}, {"label": 1, "support": [31, 90]}],\n'
    '"video2": [{"label": 1, "timestamps": [0.5, 2.25]}], "video3": null}}',
    lambda source: read_fiftyone(source.paths[0], source.videos, source.split, source.options.trimmed is not False),
    _matches,
    options=frozenset({"split", "trimmed"}),
    single_file=True,
)
