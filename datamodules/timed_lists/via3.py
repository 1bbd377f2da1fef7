"""Reader of projects of VIA 3, the VGG annotator for video.

The form was verified with VIA's own source (ox-vgg/via, via-3.x.y, `_via_data.js`, `_via_attribute.js`, `_via_file.js`,
`_via_metadata.js`) and the sample project in its CodeDoc.md, from which the objects in `VIA3.example` are.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from datamodules.annotations.json_lists import JsonEntry, read_json
from datamodules.annotations.list_format import ListFormat, ListHead, require_split
from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.records import Annotations, PathLike, as_list
from datamodules.annotations.segments import Segment
from datamodules.annotations.skipped_files import count_noun
from datamodules.annotations.video_files import existing_folder, make_keys
from datamodules.annotations.video_lookup import VideoQuery, locate_videos
from datamodules.timed_lists.timed_labels import LabelledVideo, TimedLabel, make_annotations

_VIDEO, _LOCAL, _INLINE = 4, 1, 4  # _VIA_FILE_TYPE.VIDEO, _VIA_FILE_LOC.LOCAL and .INLINE
_CHECKBOX = 2  # _VIA_ATTRIBUTE_TYPE.CHECKBOX, whose value is several option ids
_UNTOUCHED = "_DEFAULT"  # value of a text attribute that nobody filled in


class _Project(NamedTuple):
    """The labels in one project.

    Attributes:
        attribute: name of the attribute that is the class.
        labels: file name -> its labels.
        left_out: number of annotations that are no segments of videos.
    """

    attribute: str
    labels: dict[str, list[TimedLabel]]
    left_out: int


def read_via3(
    lists: PathLike | Sequence[PathLike],
    videos_root: PathLike,
    split: str | None = None,
    trimmed: bool = True,
    label_field: str | None = None,
) -> Annotations:
    """Read projects of VIA 3: their temporal segments, and labels of whole videos.

    Times are seconds. The class is the text of the chosen option; of a text attribute the text itself; a checkbox gives
    a label for each option that is ticked. Regions in single frames are not read. The group is the video.

    Args:
        lists: the projects' json files; a file name in several of them is one video.
        videos_root: folder of the videos, by their file names, at most two folders deeper.
        split: the split of all videos; projects have none.
        trimmed: whether each segment is cut out as a video of its own; else videos are whole and have all their labels.
        label_field: name of the attribute; needed where segments have several.

    Raises:
        AnnotationError: the file is missing or malformed, `split` is missing, there are several attributes and no
            `label_field`, or no video is labelled.
    """
    files = [Path(path) for path in as_list(lists)]
    split = require_split(files[0], split)
    labels: dict[str, list[TimedLabel]] = {}
    attributes, left_out = set(), 0
    for file in files:
        project = _read_project(file, label_field)
        attributes.add(project.attribute)
        left_out += project.left_out
        for name, parts in project.labels.items():
            labels.setdefault(name, []).extend(parts)
    if len(attributes) > 1:
        names = ", ".join(sorted(attributes))
        raise AnnotationError(
            f"{files[0]}: the projects have attributes of several names, {names}; choose one (--label-field)"
        )
    queries = [VideoQuery(PurePosixPath(name).stem, "", suffix=PurePosixPath(name).suffix) for name in labels]
    paths, notes = locate_videos(existing_folder(videos_root), queries, list(labels))
    if left_out:
        notes.append(f"{count_noun(left_out, 'annotation')} of single frames, regions or other files left out")
    keys = make_keys(list(labels))
    videos = [
        LabelledVideo(video, key, split, key, parts)
        for parts, video, key in zip(labels.values(), paths, keys, strict=True)
    ]
    return make_annotations(videos, trimmed, files[0], Path(videos_root), notes=notes)


def _read_project(path: Path, label_field: str | None) -> _Project:
    project = JsonEntry(str(path), _object(path, read_json(path)))
    parts = {name: _object(path, project.values.get(name), name) for name in ("attribute", "file", "view", "metadata")}
    files = {str(number): JsonEntry(f"{path}, file {number}", one) for number, one in parts["file"].items()}
    names = {number: _file_name(entry) for number, entry in files.items() if entry.values.get("type") == _VIDEO}
    repeated = next((name for name, count in Counter(names.values()).items() if count > 1), None)
    if repeated is not None:
        raise AnnotationError(f"{path}: two files are called {repeated!r}, and are found by name; rename one")
    segments = [JsonEntry(f"{path}, metadata {name}", one) for name, one in parts["metadata"].items()]
    number, attribute = _choose_attribute(path, parts["attribute"], segments, label_field)
    labels: dict[str, list[TimedLabel]] = {name: [] for name in names.values()}
    left_out = 0
    for segment in segments:
        file, bounds = _file_of(parts["view"], segment), _bounds(segment)
        if file in names and bounds is not None:
            labels[names[file]] += [TimedLabel(name, bounds) for name in _class_names(segment, number, attribute)]
        else:
            left_out += 1
    return _Project(str(attribute.get("aname", number)), labels, left_out)


def _object(path: Path, value: Any, name: str = "") -> dict[str, Any]:
    inner = isinstance(value, dict) and (not name or all(isinstance(one, dict) for one in value.values()))
    if not inner:
        raise AnnotationError(
            f"{path}: {name or 'it'} must be a JSON object of a VIA 3 project; save the project again"
        )
    return dict(value)


def _file_name(entry: JsonEntry) -> str:
    """The name of a file, of any location; without folders."""
    inline = entry.values.get("loc") in (_LOCAL, _INLINE) or not entry.values.get("src")
    return PurePosixPath(entry.text("fname" if inline else "src").replace("\\", "/")).name


def _file_of(views: Mapping[str, Any], segment: JsonEntry) -> str:
    """The id of the first file of a segment's view; "" where there is none."""
    view = views.get(str(segment.values.get("vid")), {})
    numbers = view.get("fid_list") or [""]
    return str(numbers[0])


def _bounds(segment: JsonEntry) -> Segment | None:
    """The segment's part of its video; None for a region, a single frame, and a segment that was never placed."""
    times = segment.values.get("z")
    if segment.values.get("xy") or not isinstance(times, list) or len(times) == 1 or times == [-1, -1]:
        return None
    return Segment(*segment.interval("z")) if times else Segment()


def _choose_attribute(
    path: Path, attributes: Mapping[str, Any], segments: Sequence[JsonEntry], requested: str | None
) -> tuple[str, Mapping[str, Any]]:
    """Id and description of the attribute that is the class."""
    used = {number for segment in segments if _bounds(segment) for number in segment.values.get("av") or ()}
    found = {number: one for number, one in attributes.items() if number in used}
    names = [str(one.get("aname", number)) for number, one in found.items()]
    if requested is not None:
        found = {number: one for number, one in found.items() if one.get("aname") == requested}
        if not found:
            raise AnnotationError(
                f"label_field={requested!r}: segments of {path} have {', '.join(names) or 'no attribute'}"
            )
    if len(found) > 1:
        raise AnnotationError(
            f"{path}: segments have several attributes, {', '.join(names)}; choose one (--label-field)"
        )
    if not found:
        raise AnnotationError(f"{path}: no segment has a value of an attribute; label some")
    return next(iter(found.items()))


def _class_names(segment: JsonEntry, number: str, attribute: Mapping[str, Any]) -> Iterator[str]:
    value = (segment.values.get("av") or {}).get(number)
    if not isinstance(value, str) or value.strip() in ("", _UNTOUCHED):
        return
    options = attribute.get("options") or {}
    for one in value.split(",") if attribute.get("type") == _CHECKBOX else [value]:
        name = str(options.get(one.strip(), one)).strip()
        if name:
            yield name


def _matches(head: ListHead) -> bool:
    return isinstance(head.content, dict) and {"project", "attribute", "file", "metadata"} <= head.content.keys()


VIA3 = ListFormat(
    "via3",
    "VIA 3: the project's json; --label-field is the attribute where there are several, --split the split. Videos: by "
    "their file names.",
    '"-glfwaaX": {"vid": "1", "flg": 0, "z": [2, 6.5], "xy": [], "av": {"1": "1"}},\n'
    '"+mHHT-tg": {"vid": "1", "flg": 0, "z": [9, 20], "xy": [], "av": {"1": "2"}},\n'
    '"ed+wsOZZ": {"vid": "1", "flg": 0, "z": [24, 26], "xy": [], "av": {"1": "2"}}',
    lambda source: read_via3(*source.timed_arguments),
    _matches,
    options=frozenset({"split", "trimmed", "label_field"}),
)
