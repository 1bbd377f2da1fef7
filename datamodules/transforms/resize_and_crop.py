"""Resizing, cropping and flipping of clips: pure functions on uint8 tensors (T, H, W, C), the same for all frames.

Values stay in [0, 255]; results are contiguous and, where they differ from the input, never share its memory. A clip
that is too small for a crop is enlarged until it fits, keeping its aspect ratio: a small video never ends a training
run. `datamodules.sampling.crop_windows` computes the crop windows, random ones too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.batch import STREAM_CHANNELS, Window
from datamodules.sampling.crop_windows import FrameSize, crop_windows


def resize(clip: Tensor, size: FrameSize) -> Tensor:
    """Resizes every frame with bilinear interpolation, antialiased when shrinking.

    torch computes uint8 in fixed point and rounds to the nearest level; bilinear weights cannot leave [0, 255].

    Args:
        clip: uint8 (T, H, W, C).
        size: (height, width) of the result, each at least 1.

    Returns:
        uint8 (T, height, width, C).

    Raises:
        ValueError: `clip` is not uint8 (T, H, W, C), or a side is below 1.
    """
    check_clip(clip)
    if min(size) < 1:
        raise ValueError(f"size={tuple(size)}: (height, width) must be at least 1")
    if clip.shape[1:3] == tuple(size):
        return clip.contiguous()
    channels_last = clip.contiguous().permute(0, 3, 1, 2)  # (T, C, H, W) whose memory is (T, H, W, C): the fast path
    resized = F.interpolate(channels_last, size=tuple(size), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous()


def resize_short_side(clip: Tensor, size: int) -> Tensor:
    """Resizes so that the shorter side is `size` pixels; the longer side keeps the aspect ratio, rounded down.

    Args:
        clip: uint8 (T, H, W, C).
        size: pixels, at least 1.

    Returns:
        uint8 (T, H', W', C) with min(H', W') = size.
    """
    check_clip(clip)
    height, width = clip.shape[1:3]
    if height <= width:
        return resize(clip, (size, max(size, width * size // height)))
    return resize(clip, (max(size, height * size // width), size))


def horizontal_flip(clip: Tensor) -> Tensor:
    """Mirrors left and right; wrong for classes that differ by direction, such as "moving left".

    What moves to the right then moves to the left: of optical flow the sign of x is turned, so level n becomes 256 - n.

    Args:
        clip: uint8 (T, H, W, C): RGB, flow or both (`datamodules.batch.STREAM_CHANNELS`).

    Returns:
        uint8 (T, H, W, C).
    """
    check_clip(clip)
    # (T, C, H, W) whose memory is (T, H, W, C): the fast path
    mirrored = clip.permute(0, 3, 1, 2).flip(3).permute(0, 2, 3, 1)
    if clip.shape[3] in (STREAM_CHANNELS["flow"], STREAM_CHANNELS["both"]):
        mirrored[..., -2].neg_()  # unsigned bytes wrap
    return mirrored


def spatial_crops(clip: Tensor, size: int, num_crops: int) -> list[Tensor]:
    """Cuts squares along the longer side: the center one, or the first, center and last one.

    Three squares with the side of the clip's shorter side cover all of it up to aspect ratios of 3 : 1.

    Args:
        clip: uint8 (T, H, W, C); enlarged first if it is smaller than the crop.
        size: side of the squares in pixels.
        num_crops: 1 or 3.

    Returns:
        `num_crops` clips uint8 (T, size, size, C), from left to right, or from top to bottom in portrait videos.

    Raises:
        ValueError: `num_crops` is neither 1 nor 3.
    """
    if num_crops not in (1, 3):
        raise ValueError(f"num_crops={num_crops}: must be 1 (center) or 3 (along the longer side)")
    clip = resize_to_fit(clip, size, size)
    return [crop(clip, window) for window in crop_windows(frame_size(clip), size, num_crops)]


def resize_to_fit(clip: Tensor, height: int, width: int) -> Tensor:
    """The clip if it covers (height, width), otherwise its smallest enlargement that does, keeping the aspect ratio."""
    check_clip(clip)
    clip_height, clip_width = clip.shape[1:3]
    if clip_height >= height and clip_width >= width:
        return clip
    factor = max(height / clip_height, width / clip_width)
    return resize(clip, (max(height, round(clip_height * factor)), max(width, round(clip_width * factor))))


def frame_size(clip: Tensor) -> FrameSize:
    """(height, width) of a clip."""
    return clip.shape[1], clip.shape[2]


def crop(clip: Tensor, window: Window) -> Tensor:
    """The window's part of a clip, copied only if not contiguous; mirroring is left to the caller."""
    rows = slice(window.top, window.top + window.height)
    return clip[:, rows, window.left : window.left + window.width].contiguous()


def check_clip(clip: Tensor) -> None:
    """Checks that a clip is uint8 (T, H, W, C) and not empty.

    Raises:
        ValueError: another type or shape, or empty.
    """
    if clip.dtype != torch.uint8 or clip.ndim != 4 or 0 in clip.shape:
        raise ValueError(f"clip must be uint8 (T, H, W, C) and not empty, not {clip.dtype} {tuple(clip.shape)}")
