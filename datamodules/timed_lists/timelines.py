"""Labels by time: the segments of a list as the labels of whole files, in seconds."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.records import Annotations, Timeline, TimelineLabel, VideoRecord
from datamodules.annotations.refusals import NO_INTERVAL
from datamodules.annotations.segments import END_MARGIN_S
from datamodules.annotations.video_files import make_keys, relative_path
from datamodules.video.decoding import probe, read_frame_times
from datamodules.video.video_container import OUT_OF_RANGE, DecodeError

_SHORTEST_S = 1e-6  # of an overlap, or of a gap: binary forms of equal decimal times differ by less


def join_segments(records: Sequence[VideoRecord]) -> dict[str, list[VideoRecord]]:
    """The segments of each file, by its path, in the order of the list."""
    files: dict[str, list[VideoRecord]] = {}
    for record in records:
        files.setdefault(record.path, []).append(record)
    return files


def join_timelines(listed: Annotations, root: Path) -> Annotations:
    """Whole files with labels by time, of a list of labelled segments.

    The task is `multi_label` where segments with different labels overlap, or have several labels, else
    `single_label`. A row without times is a label of the whole file, one without a label a file without.

    Args:
        listed: the list, each segment a record.
        root: folder of the videos, to which the keys of files are relative.

    Raises:
        AnnotationError: the segments of a file are in several splits, or a segment has bounds that no file can have.
    """
    impossible = [one for one in listed.refused if one.reason in (NO_INTERVAL, OUT_OF_RANGE)]
    if impossible:
        raise AnnotationError(
            f"{impossible[0].path}: {impossible[0].detail}; correct the list: without this segment its frames would "
            "get another label"
        )
    files = join_segments(listed.records)
    keys = make_keys([relative_path(path, root) for path in files])
    records = [_whole_file(key, segments) for key, segments in zip(keys, files.values(), strict=True)]
    overlap = next((found for record in records if (found := find_overlap(record))), None)
    if overlap is None and listed.task == "single_label":
        return replace(listed, records=records)
    notes = listed.notes if overlap is None else (*listed.notes, f"{overlap}, so frames have several labels")
    labelled = [replace(record, labels=record.class_names) for record in records]
    return replace(listed, records=labelled, task="multi_label", notes=notes)


def _whole_file(key: str, segments: Sequence[VideoRecord]) -> VideoRecord:
    """The record of a file, from those of its segments."""
    first = segments[0]
    other = next((one for one in segments if (one.split, one.fold_splits) != (first.split, first.fold_splits)), None)
    if other is not None:
        raise AnnotationError(
            f"{first.path}: its segments are in several splits, and it is packed whole; give all of them one split"
        )
    return VideoRecord(
        *(first.path, key, "", first.split, first.group),
        fold_splits=first.fold_splits,
        frames_per_second=first.frames_per_second,
        timeline=tuple(timeline_labels(segments)),
    )


def timeline_labels(segments: Sequence[VideoRecord]) -> list[TimelineLabel]:
    """The labels of the segments of one file, with their bounds."""
    return [
        TimelineLabel(label, one.time_start, one.time_end, one.start_frame, one.end_frame)
        for one in segments
        for label in one.class_names
    ]


def find_overlap(record: VideoRecord) -> str:
    """The first two parts of a file with different labels that overlap, in words; "" without any."""
    bounds = [(part.label, *_bounds_in_one_unit(part)) for part in record.timeline or ()]
    bounds.sort(key=lambda part: part[1])
    for (label, start, end), (other, other_start, other_end) in combinations(bounds, 2):
        if label != other and min(end, other_end) - max(start, other_start) > _SHORTEST_S:
            return f"{record.path}: {label!r} from {start:g} and {other!r} from {other_start:g} overlap"
    return ""


def _bounds_in_one_unit(part: TimelineLabel) -> tuple[float, float]:
    """Start and end, in seconds or in frames; a list has one of them."""
    start = part.start if part.start_frame is None else part.start_frame
    end = part.end if part.end_frame is None else part.end_frame
    return start or 0.0, float("inf") if end is None else end


def timeline_in_seconds(path: str, labels: Sequence[TimelineLabel], fps: float | None = None) -> Timeline:
    """The labels of a file with start and end in seconds; frame numbers are converted by the times of its frames.

    Args:
        path: path of the video file, which is read only for frame numbers.
        labels: its labels; an end that is not given is infinite.
        fps: rate of a folder of images; None for a file.

    Raises:
        DecodeError: the file cannot be read.
    """
    has_frames = any(part.start_frame is not None or part.end_frame is not None for part in labels)
    seconds_of = _frame_clock(path, fps) if has_frames else float
    return tuple(
        (
            part.label,
            (part.start or 0.0) if part.start_frame is None else seconds_of(part.start_frame),
            (float("inf") if part.end is None else part.end) if part.end_frame is None else seconds_of(part.end_frame),
        )
        for part in labels
    )


def _frame_clock(path: str, fps: float | None) -> Callable[[int], float]:
    """A function from the number of a frame of the file to its time in seconds."""
    if fps is not None:
        return lambda number: number / fps
    info = probe(path)
    times = read_frame_times(path) if info.variable_rate else None
    return lambda number: number / info.fps if times is None or number >= len(times) else float(times[number])


def complete_timeline(timeline: Timeline, duration_s: float, background: str | None) -> Timeline:
    """The labels of a video in the order of their starts, cut at its end, with the time between them as background.

    >>> complete_timeline((("wave", 1.0, 3.5),), 3.0, "nothing")
    (('nothing', 0.0, 1.0), ('wave', 1.0, 3.0))

    Args:
        timeline: labels with start and end in seconds.
        duration_s: duration of the video.
        background: class of the time in no part; None leaves it without a label.

    Raises:
        DecodeError: a part begins after the video, or ends more than a second after it (`OUT_OF_RANGE`).
    """
    for label, start, end in timeline:
        if start >= duration_s or (end != float("inf") and end > duration_s + END_MARGIN_S):
            raise DecodeError(
                f"{label!r} from {start:g} to {end:g} s is after the end: the video lasts {duration_s:.2f} s",
                OUT_OF_RANGE,
            )
    parts = sorted(((label, start, min(end, duration_s)) for label, start, end in timeline), key=lambda part: part[1:])
    if background is None:
        return tuple(parts)
    filled, covered = [], 0.0
    for label, start, end in [*parts, ("", duration_s, duration_s)]:
        if start - covered > _SHORTEST_S:
            filled.append((background, covered, start))
        if label:
            filled.append((label, start, end))
        covered = max(covered, end)
    return tuple(filled)
