"""The page of an evaluation of timelines: of each video the labelled segments above the detections, the worst first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.video.decoding import DecodeError
from pipeline.classify.timeline import format_clock
from pipeline.localization.detections import Detection
from pipeline.localization.labelled_videos import LabelledVideo
from pipeline.localization.timeline_scores import Timeline
from pipeline.metrics.temporal_detection import temporal_iou
from pipeline.report.pictures import Preview, make_preview
from pipeline.report.rendering import percent, render

_NUM_VIDEOS = 20  # on the page
_NUM_PREVIEWS = 3
_FOUND = 0.5  # tIoU from which on a segment counts as found on the page
_MIN_WIDTH = 0.3  # of a bar, in percent of the video


class Bar(NamedTuple):
    """A segment as drawn.

    Attributes:
        left: its left end, in percent of the video.
        width: its width, in percent of the video.
        name: its class.
        text: class, times and confidence.
        agrees: whether a segment of its class on the other line overlaps it by a tIoU of at least `_FOUND`.
    """

    left: float
    width: float
    name: str
    text: str
    agrees: bool


class ShownTimeline(NamedTuple):
    """A video on the page: its name, how many of its segments are found, both lanes, and a preview of the worst."""

    name: str
    duration: str
    num_found: int
    num_segments: int
    truth: Sequence[Bar]
    detections: Sequence[Bar]
    preview: Preview | None


def draw_timeline_page(
    title: str,
    report: Mapping[str, Any],
    videos: Sequence[LabelledVideo],
    timelines: Sequence[Timeline],
    found: Sequence[Sequence[Detection]],
    class_names: Sequence[str],
) -> str:
    """Renders the page: HTML in one file.

    Args:
        title: what was evaluated, and on which videos.
        report: content of report.json.
        videos: the V videos with their segments.
        timelines: their durations.
        found: their detections.
        class_names: the K class names.
    """
    shown = [
        _show(video, timeline.duration_s, of_video, class_names)
        for video, timeline, of_video in zip(videos, timelines, found, strict=True)
    ]
    order = sorted(range(len(shown)), key=lambda number: (shown[number].num_found - shown[number].num_segments, number))
    pictured = [
        shown[number]._replace(preview=_preview(videos[number].path))
        for number in order[:_NUM_PREVIEWS]
        if shown[number].num_found < shown[number].num_segments
    ]
    others = [shown[number] for number in order[len(pictured) : _NUM_VIDEOS]]
    thresholds = list(report["by_tiou"])
    return render("timelines.html", title=title, report=report, videos=[*pictured, *others], thresholds=thresholds)


def _show(
    video: LabelledVideo, duration_s: float, detections: Sequence[Detection], class_names: Sequence[str]
) -> ShownTimeline:
    truth = [(number, start, min(end, duration_s)) for number, start, end in video.segments]
    above = [_bar(segment, detections, duration_s, class_names) for segment in truth]
    below = [_bar(each[:3], truth, duration_s, class_names, f", {percent(each[3], 0)}") for each in detections]
    num_found = sum(bar.agrees for bar in above)
    return ShownTimeline(Path(video.path).name, format_clock(duration_s), num_found, len(above), above, below, None)


def _bar(
    segment: tuple[int, float, float],
    others: Sequence[tuple[Any, ...]],
    duration_s: float,
    class_names: Sequence[str],
    confidence: str = "",
) -> Bar:
    """A segment as a bar; `others` are those of the other line, each with class number, start and end."""
    number, start, end = segment
    bounds = np.array([each[1:3] for each in others if each[0] == number]).reshape(-1, 2)
    agrees = bool(len(bounds) and temporal_iou(np.array([[start, end]]), bounds).max() >= _FOUND)
    text = f"{class_names[number]}, {start:.1f} to {end:.1f} s{confidence}"
    width = max(_MIN_WIDTH, 100 * (end - start) / duration_s)
    return Bar(100 * start / duration_s, width, class_names[number], text, agrees)


def _preview(path: str) -> Preview | None:
    try:
        return make_preview(Path(path).read_bytes())
    except (DecodeError, OSError):
        return None
