"""The page that `show` writes: clips as strips of frames, with the transforms of each."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.report.pictures import encode_jpeg
from pipeline.report.rendering import render

_MAX_FRAMES = 16  # maximum number of a clip's frames on the page


class ShownFrame(NamedTuple):
    """A frame of a clip: its number in the video, its presentation timestamp in seconds, its picture as JPEG bytes."""

    number: int
    time_s: float
    jpeg: bytes


class ShownClip(NamedTuple):
    """A view of a video: the name of its clip and crop, its transforms, and evenly spaced frames."""

    name: str
    description: str
    frames: Sequence[ShownFrame]


class ShownVideo(NamedTuple):
    """A video: some of its views, the number of its others in `num_other_clips`, and for a segment its source."""

    key: str
    label: str
    clips: Sequence[ShownClip]
    num_other_clips: int
    segment: str = ""


class ShownStage(NamedTuple):
    """A stage (train, val, test or predict): a line with its split, or why it is not shown, and its first videos."""

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
    """A clip for the page, with at most 16 of its frames, evenly spaced.

    Args:
        name: name of the clip and the crop.
        frames: uint8 (T, H, W, 3), the RGB frames.
        numbers: frame numbers in the video, T integers.
        times: presentation timestamps in the video, T numbers in seconds.
        span: start and end of the clip in the video, in seconds.
        steps: descriptions of the transforms, in the order in which they were applied.
    """
    count = len(frames)
    chosen = sorted({round(position) for position in np.linspace(0, count - 1, min(count, _MAX_FRAMES))})
    subset = "" if len(chosen) == count else f", {len(chosen)} of {count} frames"
    description = f"{name}, {span[0]:.2f} to {span[1]:.2f} s{subset}: {'; '.join(steps)}"
    shown = [ShownFrame(numbers[position], times[position], encode_jpeg(frames[position])) for position in chosen]
    return ShownClip(name, description, shown)


def draw_clips_page(
    title: str, origin: Mapping[str, Any], settings: Mapping[str, str], stages: Sequence[ShownStage]
) -> str:
    """Renders the page as HTML.

    Args:
        title: title of the page.
        origin: identity of the dataset and epoch, by name.
        settings: settings of the data module that made the clips, by name.
        stages: the stages, in the order of the page.
    """
    return render("clips.html", title=title, origin=origin, settings=settings, stages=stages)
