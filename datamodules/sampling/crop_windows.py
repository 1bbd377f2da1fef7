"""Crop windows: the part of a frame that a clip shows, as arithmetic with explicit random generators."""

import math

import numpy as np

from datamodules.batch import Window

Size = tuple[int, int]  # (height, width)


def middle_window(frame: Size, size: Size) -> Window:
    """The center window of a frame; an odd remainder leaves the extra row below and the extra column on the right."""
    return Window(*frame, (frame[0] - size[0]) // 2, (frame[1] - size[1]) // 2, *size)


def random_window(frame: Size, size: Size, generator: np.random.Generator) -> Window:
    """A window at a random position in a frame at least as large, all equally likely; draws two integers."""
    top = int(generator.integers(frame[0] - size[0] + 1))
    left = int(generator.integers(frame[1] - size[1] + 1))
    return Window(*frame, top, left, *size)


def random_resized_window(
    frame: Size, generator: np.random.Generator, scale: tuple[float, float], ratio: tuple[float, float]
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
        proportions = math.exp(generator.uniform(math.log(ratio[0]), math.log(ratio[1])))
        cut_width = round(math.sqrt(area * proportions))
        cut_height = round(math.sqrt(area / proportions))
        if 0 < cut_width <= width and 0 < cut_height <= height:
            return random_window(frame, (cut_height, cut_width), generator)
    cut_width = min(width, max(1, round(height * ratio[1])))
    cut_height = min(height, max(1, round(width / ratio[0])))
    return middle_window(frame, (cut_height, cut_width))


def crop_windows(frame: Size, size: int, num_crops: int) -> list[Window]:
    """Squares along the longer side of a frame at least as large: the center one, or the first, center and last one."""
    middle = middle_window(frame, (size, size))
    if num_crops == 1:
        return [middle]
    if frame[1] >= frame[0]:
        return [middle._replace(left=place) for place in crop_places(frame[1] - size)]
    return [middle._replace(top=place) for place in crop_places(frame[0] - size)]


def window_around(crops: list[Window]) -> Window:
    """The smallest window that contains all given windows of one frame."""
    top, left = min(crop.top for crop in crops), min(crop.left for crop in crops)
    bottom = max(crop.top + crop.height for crop in crops)
    right = max(crop.left + crop.width for crop in crops)
    return crops[0]._replace(top=top, left=left, height=bottom - top, width=right - left)


def crop_places(spare: int) -> tuple[int, int, int]:
    """Start positions of three crops along a side that is `spare` pixels longer than a crop."""
    return 0, spare // 2, spare
