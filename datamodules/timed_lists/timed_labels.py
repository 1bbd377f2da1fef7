"""Labels with times: `make_annotations` cuts them out as segments, or gives whole videos all their labels."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datamodules.annotations.records import Annotations, VideoRecord
from datamodules.annotations.refusals import Refusal
from datamodules.annotations.segments import Segment
from datamodules.annotations.skipped_files import count_noun, join_first_names
from datamodules.annotations.tables import AnnotationError
from datamodules.annotations.video_files import make_keys, relative_path

WHOLE_VIDEO = Segment()


@dataclass(frozen=True, slots=True)
class TimedLabel:
    """A label of a part of a video.

    Attributes:
        label: name of the class; "" where the list has none.
        bounds: the part; by default the whole video.
        key: key of the segment in the data set's own list; "": made from the video's key and the bounds.
        captions: sentences that describe the part.
    """

    label: str
    bounds: Segment = WHOLE_VIDEO
    key: str = ""
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelledVideo:
    """A video and its labels.

    Attributes:
        path: path of the file, which may not exist.
        key: key of the whole video.
        split: its split.
        group: its source; segments of one video have one group.
        labels: its labels; may be empty.
        captions: sentences that describe the whole video.
    """

    path: str
    key: str
    split: str
    group: str
    labels: Sequence[TimedLabel]
    captions: tuple[str, ...] = ()


def make_annotations(
    videos: Sequence[LabelledVideo],
    trimmed: bool,
    source: Path,
    root: Path,
    classes: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Annotations:
    """Records of labelled videos.

    Args:
        videos: the videos, in the order of the list.
        trimmed: whether each label's part is a video of the dataset; the same part with the same label counts once, a
            part that no video can have is refused, and a video without labels is left out. Else every video is whole
            and has all its labels (`task` is `multi_label`).
        source: the list, for error messages.
        root: folder of the videos, to which the paths of refused segments are relative.
        classes: class names in their official order; () without one.
        notes: sentences of the reader.

    Raises:
        AnnotationError: two videos have one key; or no video, or with `trimmed` no label, is left.
    """
    count = Counter(video.key for video in videos)
    repeated = next((key for key in count if count[key] > 1), None)
    if repeated is not None:
        raise AnnotationError(f"{source}: two videos have the key {repeated!r}; give each file its own name")
    if trimmed:
        return _cut_out(videos, source, root, classes, notes)
    if not videos:
        raise AnnotationError(f"{source}: lists no video; check the file and --format")
    records = []
    for video in videos:
        labels = dict.fromkeys(one.label for one in video.labels if one.label)
        record = VideoRecord(video.path, video.key, "", video.split, video.group, labels=tuple(labels))
        records.append(replace(record, captions=video.captions))
    return Annotations(records, classes=tuple(classes), notes=tuple(notes), task="multi_label")


def _cut_out(
    videos: Sequence[LabelledVideo], source: Path, root: Path, classes: Sequence[str], notes: Sequence[str]
) -> Annotations:
    parts = list(_distinct_parts(videos))
    if not parts:
        raise AnnotationError(f"{source}: has no labelled segment; check the file and --format")
    keys = _part_keys(parts)
    records, refused = [], []
    for (video, part), key in zip(parts, keys, strict=True):
        defect = part.bounds.defect()
        if defect is not None:
            refused.append(Refusal(relative_path(video.path, root), key, *defect))
            continue
        bounds: dict[str, Any] = part.bounds.record_fields()
        record = VideoRecord(video.path, key, part.label, video.split, video.group, **bounds)
        records.append(replace(record, captions=part.captions))
    if not records:
        raise AnnotationError(f"{source}: all its segments are refused; {refused[0].key}: {refused[0].detail}")
    empty = [video.key for video in videos if not video.labels]
    repeated = sum(len(video.labels) for video in videos) - len(parts)
    sentences = list(notes)
    if empty:
        sentences.append(f"{count_noun(len(empty), 'video')} without a label left out: {join_first_names(empty)}")
    if repeated:
        sentences.append(f"{count_noun(repeated, 'segment')} listed again with the same times and label left out")
    return Annotations(records, classes=tuple(classes), refused=tuple(refused), notes=tuple(sentences))


def _distinct_parts(videos: Sequence[LabelledVideo]) -> Iterator[tuple[LabelledVideo, TimedLabel]]:
    for video in videos:
        for part in dict.fromkeys(video.labels):
            yield video, part


def _part_keys(parts: Sequence[tuple[LabelledVideo, TimedLabel]]) -> list[str]:
    """A key for each part; equal ones, of one part with several labels, end in the label."""
    plain = [part.key or video.key + part.bounds.suffix for video, part in parts]
    count = Counter(plain)
    labelled = make_keys([f"{key} {part.label}" for key, (_, part) in zip(plain, parts, strict=True)])
    return [key if count[key] == 1 else other for key, other in zip(plain, labelled, strict=True)]


def clamp_end(start: float, end: float, duration: float | None) -> float:
    """The end of a segment, not after the end of its video where it begins in it; `duration` None: unchanged.

    Lists round the times, and the annotators' players differ: in Charades and THUMOS'14 segments end seconds after
    their videos.

    >>> clamp_end(10.0, 21.5, 20.0), clamp_end(30.0, 41.5, 20.0)
    (20.0, 41.5)
    """
    return min(end, duration) if duration is not None and start < duration else end
