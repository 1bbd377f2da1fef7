"""The page that `show` writes: clips as strips of frames, with what was done to each."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.report.pictures import encode_jpeg
from pipeline.report.rendering import render

_MOST_FRAMES = 16  # of a clip on the page


class ShownFrame(NamedTuple):
    """A frame of a clip: its number and its time, in seconds, in the video; its picture as a JPEG file."""

    number: int
    time_s: float
    jpeg: bytes


class ShownClip(NamedTuple):
    """A view of a video: which clip and crop, what was done to it, and frames spread evenly over it."""

    name: str
    description: str
    frames: Sequence[ShownFrame]


class ShownVideo(NamedTuple):
    """A video, some of its views, and how many more it has."""

    key: str
    label: str
    clips: Sequence[ShownClip]
    more: int


class ShownStage(NamedTuple):
    """Train, val, test or predict; a line that names its split, or says why there is none; its first videos."""

    name: str
    line: str
    videos: Sequence[ShownVideo]


def make_shown_clip(
    name: str,
    frames: NDArray[np.uint8],
    numbers: Sequence[int],
    times: Sequence[float],
    span: tuple[float, float],
    steps: Sequence[str],
) -> ShownClip:
    """A clip for the page; of a long one, 16 frames.

    Args:
        name: which clip and which crop.
        frames: uint8 (T, H, W, 3).
        numbers: T frame numbers in the video.
        times: T times in the video, in seconds.
        span: start and end of the clip in the video, in seconds.
        steps: what was done to it, in order.
    """
    count = len(frames)
    chosen = sorted({round(place) for place in np.linspace(0, count - 1, min(count, _MOST_FRAMES))})
    part = "" if len(chosen) == count else f", {len(chosen)} of {count} frames"
    description = f"{name}, {span[0]:.2f} to {span[1]:.2f} s{part}: {'; '.join(steps)}"
    shown = [ShownFrame(numbers[place], times[place], encode_jpeg(frames[place])) for place in chosen]
    return ShownClip(name, description, shown)


def draw_clips_page(
    title: str, origin: Mapping[str, Any], settings: Mapping[str, str], stages: Sequence[ShownStage]
) -> str:
    """The page as HTML.

    Args:
        title: above all.
        origin: what the clips come from, by name.
        settings: what made them, by name.
        stages: in order.
    """
    return render("clips.html", title=title, origin=origin, settings=settings, stages=stages)
