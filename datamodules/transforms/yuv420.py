"""Planar YUV 4:2:0 clips (`i420`): layout of the planes in a batch, and conversion to RGB on the device.

A frame takes 1.5 bytes per pixel, half of RGB, and is not converted in the worker. The layout is the I420 layout of
FFmpeg and OpenCV, 3h rows of 2w bytes for h x w pairs of rows and columns:

    2h rows    Y, one byte a pixel
    h rows     U, then V: h x w bytes each, one for each 2 x 2 pixels

Windows may begin at odd rows and columns. So whole pairs are sent, with room for one pair more than a window of even
size has, and the window is cut out and mirrored after the conversion. The conversion is FFmpeg's on x86, in integers;
each chroma sample is used for its 2 x 2 pixels without interpolation. Measured with FFmpeg 8 on x86-64, over random
bytes, five matrices and both ranges: mean and maximum difference from `pixels: rgb` are 0. On other processors FFmpeg
may round differently by a level or two.
"""

from functools import cache
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from datamodules.batch import Allocate, ClipBatch, Window
from datamodules.transforms.clip_transforms import EvalTransform, TrainTransform
from datamodules.video.pyav_decoder import Frames

Pixels = Literal["rgb", "i420"]
_Planes = TypeVar("_Planes", Tensor, Frames)

# Weights of red and blue in luma: Rec. ITU-T H.273, table 4, by `MatrixCoefficients`. Unspecified is read as BT.601, as
# FFmpeg does.
_BT601 = (0.299, 0.114)
_SHARES = {1: (0.2126, 0.0722), 2: _BT601, 4: (0.30, 0.11), 5: _BT601, 6: _BT601, 7: (0.212, 0.087)}
_FULL_RANGE = 2
_PIXELS_PER_PASS_GPU = 2**24  # pixels converted at once on a GPU: intermediate results take some 15 bytes per pixel
_PIXELS_PER_PASS_CPU = 2**17  # pixels converted at once on a CPU


@cache
def color_factors(matrix: int, color_range: int) -> tuple[int, ...] | None:
    """Color conversion factors for a color matrix and range; None for an unknown matrix.

    Args:
        matrix: H.273 matrix coefficients code, as in `av.VideoFrame.colorspace`.
        color_range: 2 for full range; all others are limited range (Y from 16 to 235).

    Returns:
        Six integers: the offset of Y in eighths of a level, then the factors of Y, V to red, U to blue, U to green and
        V to green, in units of 1 / 8192. FFmpeg multiplies eighths of levels by these and takes the high 16 bits.
    """
    if matrix not in _SHARES:
        return None
    red, blue = _SHARES[matrix]
    green = 1 - red - blue
    shares = (2 * (1 - red), 2 * (1 - blue), -2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green)
    chroma = [round(share * 65536 * 255 / 224) for share in shares]
    if color_range == _FULL_RANGE:
        luma, offset, chroma = 65536, 0, [int(factor * 224 / 255) for factor in chroma]  # rounded toward 0
    else:
        luma, offset = 65536 * 255 // 219, 16 * 8
    return offset, *((factor * 8192 + 32768) >> 16 for factor in (luma, *chroma))


def num_enclosing_pairs(size: int) -> int:
    """Number of pairs that contain `size` rows, or columns, wherever these begin."""
    return size // 2 + 1


def split_planes(clips: _Planes) -> tuple[_Planes, _Planes, _Planes]:
    """Views of the planes: (..., 3h, 2w) to Y (..., 2h, 2w), U (..., h, w) and V (..., h, w)."""
    height, width = clips.shape[-2] // 3, clips.shape[-1] // 2
    chroma = clips[..., 2 * height :, :].reshape(*clips.shape[:-2], 2, height, width)
    return clips[..., : 2 * height, :], chroma[..., 0, :, :], chroma[..., 1, :, :]


def stack_planes(clips: list[Tensor], windows: list[Window], allocate: Allocate) -> Tensor:
    """Stacks windows in planes into one tensor, padded with 0 to the longest; see `three_crops.pad_and_stack`.

    Args:
        clips: at least one uint8 (T, 3h, 2w).
        windows: the window of each clip; those that are higher than wide are transposed.
        allocate: allocates the tensor that they are written to.

    Returns:
        uint8 (N, T, 3h, 2 * longest w).
    """
    landscape = [
        [plane.transpose(1, 2) if window.height > window.width else plane for plane in split_planes(clip)]
        for clip, window in zip(clips, windows, strict=True)
    ]
    frames, height, _ = landscape[0][1].shape
    longest = max(luma.shape[2] for luma, _, _ in landscape)
    stacked = allocate((len(landscape), frames, 3 * height, longest))
    for *outputs, planes in zip(*split_planes(stacked), landscape, strict=True):
        for output, plane in zip(outputs, planes, strict=True):
            output[:, :, : plane.shape[2]] = plane
            output[:, :, plane.shape[2] :] = 0
    return stacked


def to_rgb(batch: ClipBatch) -> ClipBatch:
    """Converts the clips of a batch to RGB on the batch's device, cut and mirrored as `windows` state.

    Returns:
        The batch as the loader makes it with `pixels: rgb`: clips uint8 (N, T, H, W, C). RGB batches are unchanged.
    """
    if batch.pixel_format != "i420":
        return batch
    assert batch.windows is not None, "the reader records them"
    assert batch.colors is not None, "the reader records them"
    num_clips, num_frames, rows, columns = batch.clips.shape
    height = min(batch.windows[0].height, batch.windows[0].width)
    width = max(max(window.height, window.width) for window in batch.windows)
    clips = batch.clips.new_zeros((num_clips, num_frames, height, width, 3))
    factors = batch.colors.to(clips.device, non_blocking=True)[:, :, None, None, None]
    pixels_per_pass = _PIXELS_PER_PASS_GPU if clips.is_cuda else _PIXELS_PER_PASS_CPU
    clips_per_pass = max(1, pixels_per_pass // (num_frames * rows * columns))
    frames_per_pass = max(1, pixels_per_pass // (rows * columns))
    for first in range(0, num_clips, clips_per_pass):
        clip_range = slice(first, first + clips_per_pass)
        for start in range(0, num_frames, frames_per_pass):
            frame_range = slice(start, start + frames_per_pass)
            pairs = _convert(batch.clips[clip_range, frame_range], factors[clip_range])
            for clip, clip_pairs, window in zip(
                clips[clip_range, frame_range], pairs, batch.windows[clip_range], strict=True
            ):
                _copy_window(clip, clip_pairs, window)
    return batch._replace(clips=clips, pixel_format="rgb", colors=None)


def _copy_window(clip: Tensor, pairs: Tensor, window: Window) -> None:
    """Copies a window, mirrored if required, from the pairs that contain it, (C, T, 2h, 2w), to (T, H, W, C)."""
    offset, size = (window.top % 2, window.left % 2), (window.height, window.width)
    if window.height > window.width:  # transposed
        offset, size = offset[::-1], size[::-1]
    cropped = pairs[:, :, offset[0] : offset[0] + size[0], offset[1] : offset[1] + size[1]].permute(1, 2, 3, 0)
    clip[:, :, : size[1]] = cropped.flip(2) if window.mirrored else cropped


def _convert(clips: Tensor, factors: Tensor) -> Tensor:
    """uint8 (N, T, 3h, 2w) and int32 (N, 6, 1, 1, 1) to RGB, channels first: uint8 (N, C, T, 2h, 2w)."""
    luma, u, v = (plane.to(torch.int32) for plane in split_planes(clips))
    offset, luma_factor, v_red, u_blue, u_green, v_green = factors.unbind(1)
    level = luma.mul_(8 * luma_factor).sub_(offset * luma_factor).bitwise_right_shift_(16).to(torch.int16)
    level = level.view(*u.shape[:3], 2, -1)  # (N, T, h, 2, 2w)
    u, v = u.sub_(128).mul_(8), v.sub_(128).mul_(8)
    red, blue = (v * v_red) >> 16, (u * u_blue) >> 16
    green = ((u * u_green) >> 16) + ((v * v_green) >> 16)
    rgb = clips.new_empty((len(clips), 3, *luma.shape[1:]))
    for channel, chroma in enumerate((red, green, blue)):
        repeated = torch.add(chroma & 0xFFFF, chroma, alpha=0x10000).view(
            torch.int16
        )  # each value twice: (N, T, h, 2w)
        rgb[:, channel] = (level + repeated[:, :, :, None]).clamp_(0, 255).flatten(2, 3)
    return rgb


def check_yuv420_options(pixels: str, decoder: str, random_resized_crop: bool) -> None:
    """Checks the options that exclude each other with `pixels: i420`.

    Raises:
        ValueError: a decoder other than PyAV, or randomly resized crops.
    """
    if pixels not in ("rgb", "i420"):
        raise ValueError(f"pixels={pixels!r}: must be rgb or i420")
    if pixels == "i420" and decoder not in ("auto", "pyav"):
        raise ValueError(f"pixels='i420', decoder={decoder!r}: only PyAV gives planes; use decoder='pyav'")
    if pixels == "i420" and random_resized_crop:
        raise ValueError("pixels='i420', random_resized_crop=true: crops are resized in RGB; give one of them")


def supports_yuv420(transform: TrainTransform | EvalTransform, height: int, width: int) -> bool:
    """Whether frames of this size can be cropped in their planes: even sides, and no resizing."""
    resized = isinstance(transform, TrainTransform) and transform.random_resized
    return not resized and transform.crops_without_resize((height, width)) and height % 2 == 0 and width % 2 == 0


def count_unsupported(transform: TrainTransform | EvalTransform, heights: np.ndarray, widths: np.ndarray) -> int:
    """Number of videos, of sizes int64 (M,) each, that cannot be cropped in their planes.

    Raises:
        ValueError: none of the videos can.
    """
    sizes, counts = np.unique(np.stack([heights, widths], axis=1), axis=0, return_counts=True)
    unsupported = [
        (tuple(size), count)
        for size, count in zip(sizes.tolist(), counts.tolist(), strict=True)
        if not supports_yuv420(transform, *size)
    ]
    num_unsupported = sum(int(count) for _, count in unsupported)
    if unsupported and num_unsupported == len(heights):
        height, width = unsupported[0][0]
        raise ValueError(
            f"pixels='i420': frames of {height} x {width} would be resized or are of an odd size (resize="
            f"{transform.resize}, crop_size={transform.crop_size}), and planes are cut as they are stored; pack at a "
            "size that needs no resizing, or use pixels='rgb'"
        )
    return num_unsupported
