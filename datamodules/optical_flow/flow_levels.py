"""Levels of optical flow: displacements in pixels as 8 bits, and colors for people to look at.

Level 128 is no motion, one level is 20 / 127 = 0.157 pixels, and displacements beyond 20 pixels are cut, as for I3D,
whose authors scale what is left to [-1, 1] (README of github.com/google-deepmind/kinetics-i3d). With mean `FLOW_MEAN`
and standard deviation `FLOW_STD` of values in [0, 1], a network gets that scale. The opposite of level n is 256 - n.
"""

import numpy as np
import numpy.typing as npt

from datamodules.batch import FLOW_HALF_RANGE, FLOW_ZERO_LEVEL, STREAM_CHANNELS

Levels = npt.NDArray[np.uint8]

MAX_DISPLACEMENT = 20.0  # pixels
_FASTEST_COLOR = 5.0  # pixels a frame that are drawn in full color


def flow_levels(displacements: npt.NDArray[np.float32]) -> Levels:
    """Quantizes displacements to 8 bits.

    >>> flow_levels(np.float32([0, 1, -1, 20, -35, np.nan])).tolist()
    [128, 134, 122, 255, 1, 128]

    Args:
        displacements: float32 of any shape, in pixels; what is not a number counts as none.

    Returns:
        uint8 of the same shape, from 1 to 255.
    """
    cut = np.clip(np.nan_to_num(displacements, nan=0.0), -MAX_DISPLACEMENT, MAX_DISPLACEMENT)
    levels: Levels = (np.rint(cut * (FLOW_HALF_RANGE / MAX_DISPLACEMENT)) + FLOW_ZERO_LEVEL).astype(np.uint8)
    return levels


def flow_displacements(levels: Levels) -> npt.NDArray[np.float32]:
    """The displacements of levels, in pixels: float32 of the same shape."""
    return (levels.astype(np.float32) - FLOW_ZERO_LEVEL) * np.float32(MAX_DISPLACEMENT / FLOW_HALF_RANGE)


def color_flow(levels: Levels) -> Levels:
    """Draws flow in colors: the hue is the direction, and white is no motion.

    Right is red, down is yellow-green, left is cyan and up is violet; color is full from 5 pixels a frame on.

    Args:
        levels: uint8 (..., 2), x and y.

    Returns:
        uint8 (..., 3), RGB.
    """
    displacements = flow_displacements(levels)
    speed = np.minimum(np.hypot(displacements[..., 0], displacements[..., 1]) / _FASTEST_COLOR, 1.0)
    turn = np.arctan2(displacements[..., 1], displacements[..., 0]) / (2 * np.pi) % 1
    # The share of R, G and B at a hue: 1 within a sixth of a turn around the color's own, 0 beyond a third.
    distances = np.abs((turn[..., None] - np.array([0, 1 / 3, 2 / 3]) + 0.5) % 1 - 0.5)
    shares = np.clip(2 - 6 * distances, 0, 1)
    colors: Levels = np.rint(255 * (1 - speed[..., None] * (1 - shares))).astype(np.uint8)
    return colors


def draw_channels(frames: Levels) -> Levels:
    """Frames for people to look at: RGB as it is, flow in colors, and both side by side.

    Args:
        frames: uint8 (..., H, W, C): C is 3, 2 or 5.

    Returns:
        uint8 (..., H, W, 3), or (..., H, 2W, 3) for both.
    """
    channels = frames.shape[-1]
    if channels == STREAM_CHANNELS["rgb"]:
        return frames
    colors = color_flow(frames[..., -2:])
    return colors if channels == STREAM_CHANNELS["flow"] else np.concatenate([frames[..., :3], colors], axis=-2)
