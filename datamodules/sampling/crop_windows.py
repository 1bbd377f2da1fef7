"""Crop windows: the part of a frame that a clip shows, as arithmetic with explicit random generators."""

import math

import numpy as np

from datamodules.batch import Window

FrameSize = tuple[int, int]  # (height, width)


def center_window(frame: FrameSize, size: FrameSize) -> Window:
    """The center window of a frame; an odd remainder leaves the extra row below and the extra column on the right."""
    return Window(*frame, (frame[0] - size[0]) // 2, (frame[1] - size[1]) // 2, *size)


def random_window(frame: FrameSize, size: FrameSize, generator: np.random.Generator) -> Window:
    """A window at a random position in a frame at least as large, all equally likely; draws two integers."""
    top = int(generator.integers(frame[0] - size[0] + 1))
    left = int(generator.integers(frame[1] - size[1] + 1))
    return Window(*frame, top, left, *size)


def random_resized_window(
    frame: FrameSize, generator: np.random.Generator, scale: tuple[float, float], ratio: tuple[float, float]
) -> Window:
    """A window of random area and aspect ratio (Szegedy et al. 2015, section 6).

    Ten windows are tried; if none fits, it is the largest centered window of the nearest allowed aspect ratio.

    Args:
        frame: (height, width).
        generator: the source of randomness.
        scale: minimum and maximum fraction of the frame's area.
        ratio: minimum and maximum width / height, drawn uniformly in its logarithm.
    """
    height, width = frame
    for _ in range(10):
        area = height * width * generator.uniform(*scale)
        aspect_ratio = math.exp(generator.uniform(math.log(ratio[0]), math.log(ratio[1])))
        crop_width = round(math.sqrt(area * aspect_ratio))
        crop_height = round(math.sqrt(area / aspect_ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            return random_window(frame, (crop_height, crop_width), generator)
    crop_width = min(width, max(1, round(height * ratio[1])))
    crop_height = min(height, max(1, round(width / ratio[0])))
    return center_window(frame, (crop_height, crop_width))


def crop_windows(frame: FrameSize, size: int, num_crops: int) -> list[Window]:
    """Squares along the longer side of a frame at least as large: the center one, or the first, center and last one."""
    center = center_window(frame, (size, size))
    if num_crops == 1:
        return [center]
    if frame[1] >= frame[0]:
        return [center._replace(left=offset) for offset in crop_offsets(frame[1] - size)]
    return [center._replace(top=offset) for offset in crop_offsets(frame[0] - size)]


def enclosing_window(crops: list[Window]) -> Window:
    """The smallest window that contains all given windows of one frame."""
    top, left = min(crop.top for crop in crops), min(crop.left for crop in crops)
    bottom = max(crop.top + crop.height for crop in crops)
    right = max(crop.left + crop.width for crop in crops)
    return crops[0]._replace(top=top, left=left, height=bottom - top, width=right - left)


def crop_offsets(spare: int) -> tuple[int, int, int]:
    """Start positions of three crops along a side that is `spare` pixels longer than a crop."""
    return 0, spare // 2, spare
