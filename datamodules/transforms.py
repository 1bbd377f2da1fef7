"""Resize, crop and flip clips: pure functions on uint8 tensors (T, H, W, C), the same for all frames of a clip.

Values stay in [0, 255]; results are contiguous and never share memory with the input where they differ from it.
Randomness comes from an explicit numpy generator, so that the caller decides what it is keyed by. A clip that is too
small for a crop is resized up until it fits, its proportions kept: a small video never ends a training run.

What a clip goes through in a DataLoader worker is `TrainTransform` or `EvalTransform`; colors and the three crops of a
test wait until the batch is on the device (`datamodules.augmentation`, `datamodules.crops`).
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.batch import Window
from datamodules.windows import (
    Size,
    crop_windows,
    middle_window,
    random_resized_window,
    random_window,
    window_around,
)


def resize(clip: Tensor, size: Size) -> Tensor:
    """Resizes every frame: bilinear, with antialiasing where it shrinks.

    torch computes uint8 in fixed point and rounds to the nearest level; bilinear weights cannot leave [0, 255].

    Args:
        clip: uint8 (T, H, W, C).
        size: (height, width) of the result, each at least 1.

    Returns:
        uint8 (T, height, width, C).

    Raises:
        ValueError: `clip` is not uint8 (T, H, W, C), or a side is below 1.
    """
    _check(clip)
    if min(size) < 1:
        raise ValueError(f"size={tuple(size)}: (height, width) must be at least 1")
    if clip.shape[1:3] == tuple(size):
        return clip.contiguous()
    channels_last = clip.contiguous().permute(0, 3, 1, 2)  # (T, C, H, W) whose memory is (T, H, W, C): the fast path
    resized = F.interpolate(channels_last, size=tuple(size), mode="bilinear", antialias=True)
    return resized.permute(0, 2, 3, 1).contiguous()


def resize_short_side(clip: Tensor, size: int) -> Tensor:
    """Resizes so that the shorter side is `size` pixels; the longer one keeps the proportions, rounded down.

    Args:
        clip: uint8 (T, H, W, C).
        size: pixels, at least 1.

    Returns:
        uint8 (T, H', W', C) with min(H', W') = size.
    """
    _check(clip)
    height, width = clip.shape[1:3]
    if height <= width:
        return resize(clip, (size, max(size, width * size // height)))
    return resize(clip, (max(size, height * size // width), size))


def center_crop(clip: Tensor, size: int | Size) -> Tensor:
    """Cuts the middle; an odd remainder leaves the extra row below and the extra column on the right.

    Args:
        clip: uint8 (T, H, W, C); resized up first where it is smaller than the crop.
        size: side of a square, or (height, width).

    Returns:
        uint8 (T, height, width, C).
    """
    height, width = _pair(size)
    clip = _resize_to_fit(clip, height, width)
    return _cut(clip, middle_window(_frame(clip), (height, width)))


def random_crop(clip: Tensor, size: int | Size, generator: np.random.Generator) -> Tensor:
    """Cuts a window at a uniformly random place, the same in all frames.

    Args:
        clip: uint8 (T, H, W, C); resized up first where it is smaller than the crop.
        size: side of a square, or (height, width).
        generator: two integers are drawn from it, whatever the sizes.

    Returns:
        uint8 (T, height, width, C).
    """
    clip = _resize_to_fit(clip, *_pair(size))
    return _cut(clip, random_window(_frame(clip), _pair(size), generator))


def random_resized_crop(
    clip: Tensor,
    size: int | Size,
    generator: np.random.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Cuts a window of random area and proportions, then resizes it (`datamodules.windows.random_resized_window`).

    Args:
        clip: uint8 (T, H, W, C).
        size: side of a square, or (height, width), of the result.
        generator: where the randomness comes from.
        scale: least and greatest share of the frame's area.
        ratio: least and greatest width / height, drawn uniformly in its logarithm.

    Returns:
        uint8 (T, height, width, C).

    Raises:
        ValueError: `scale` is not within (0, 1], or `ratio` is not positive and ascending.
    """
    _check(clip)
    _check_ranges(scale, ratio)
    return resize(_cut(clip, random_resized_window(_frame(clip), generator, scale, ratio)), _pair(size))


def horizontal_flip(clip: Tensor) -> Tensor:
    """Mirrors left and right; wrong for classes that differ by direction, such as "moving left".

    Args:
        clip: uint8 (T, H, W, C).

    Returns:
        uint8 (T, H, W, C).
    """
    _check(clip)
    # (T, C, H, W) whose memory is (T, H, W, C): the fast path
    return clip.permute(0, 3, 1, 2).flip(3).permute(0, 2, 3, 1)


def spatial_crops(clip: Tensor, size: int, num_crops: int) -> list[Tensor]:
    """Cuts squares along the longer side: the center one, or the first, center and last one.

    Three squares whose side is the shorter side of the clip see all of it up to proportions of 3 : 1.

    Args:
        clip: uint8 (T, H, W, C); resized up first where it is smaller than the crop.
        size: side of the squares in pixels.
        num_crops: 1 or 3.

    Returns:
        `num_crops` clips uint8 (T, size, size, C), from left to right, or from top to bottom of an upright video.

    Raises:
        ValueError: `num_crops` is neither 1 nor 3.
    """
    if num_crops not in (1, 3):
        raise ValueError(f"num_crops={num_crops}: must be 1 (center) or 3 (along the longer side)")
    clip = _resize_to_fit(clip, size, size)
    return [_cut(clip, window) for window in crop_windows(_frame(clip), size, num_crops)]


def three_crops(clip: Tensor, size: int) -> list[Tensor]:
    """`spatial_crops` with three crops."""
    return spatial_crops(clip, size, 3)


@dataclass(frozen=True)
class TrainTransform:
    """Resize, random crop, random flip: what a training clip goes through.

    C3D (Tran et al. 2015, section 3.1): `TrainTransform(112, (128, 171))`; I3D (Carreira and Zisserman 2017,
    section 2.5): `TrainTransform(224, 256)`.

    Attributes:
        crop_size: side of the square crop in pixels.
        resize: before the crop, the shorter side in pixels, or (height, width), or None to keep the size.
        random_resized: crops a random area and proportions, and resizes that to `crop_size`.
        flip_probability: share of clips that are mirrored; 0 where left and right are part of the class.
        scale: least and greatest share of the area, with `random_resized`.
        ratio: least and greatest width / height, with `random_resized`.
    """

    crop_size: int
    resize: int | tuple[int, int] | None = None
    random_resized: bool = False
    flip_probability: float = 0.5
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        _check_sizes(self.crop_size, self.resize)
        _check_ranges(self.scale, self.ratio)
        if not 0 <= self.flip_probability <= 1:
            raise ValueError(f"flip_probability={self.flip_probability}: must be from 0 to 1")

    def __call__(self, clip: Tensor, generator: np.random.Generator, mirror: bool = True) -> tuple[Tensor, Window]:
        """Maps uint8 (T, H, W, C) to uint8 (T, crop_size, crop_size, C), and says which window that is.

        Args:
            clip: uint8 (T, H, W, C).
            generator: where the randomness comes from; as much is drawn from it with `mirror` as without.
            mirror: whether this clip may be mirrored at all.
        """
        clip = _resize(clip, self.resize)
        if not self.random_resized:
            clip = _resize_to_fit(clip, self.crop_size, self.crop_size)
        _check(clip)
        window = self.window(_frame(clip), generator, mirror)
        return self.finish(_cut(clip, window), window), window

    def keeps(self, frame: Size) -> bool:
        """Whether frames of this (height, width) are cut as they are, without being resized before."""
        return _keeps(frame, self.resize) and (self.random_resized or min(frame) >= self.crop_size)

    def window(self, frame: Size, generator: np.random.Generator, mirror: bool = True) -> Window:
        """What is cut out of frames of this (height, width), resized already where they have to be."""
        if self.random_resized:
            window = random_resized_window(frame, generator, self.scale, self.ratio)
        else:
            window = random_window(frame, (self.crop_size, self.crop_size), generator)
        return window._replace(mirrored=generator.random() < self.flip_probability and mirror)

    def finish(self, cut: Tensor, window: Window) -> Tensor:
        """The window's part of a clip, uint8 (T, H, W, C), resized to the crop and mirrored where it is to be."""
        clip = resize(cut, (self.crop_size, self.crop_size))
        return horizontal_flip(clip) if window.mirrored else clip


@dataclass(frozen=True)
class EvalTransform:
    """Resize, and the smallest window that holds all crops: what a clip goes through in validation and tests.

    One crop is that window itself; three are cut out of it on the device, where less has been sent than three crops.
    Nothing is random.

    Attributes:
        crop_size: side of the square crops in pixels.
        resize: before the crops, the shorter side in pixels, or (height, width), or None to keep the size.
        num_crops: 1 (center) or 3 (along the longer side).
    """

    crop_size: int
    resize: int | tuple[int, int] | None = None
    num_crops: int = 1

    def __post_init__(self) -> None:
        _check_sizes(self.crop_size, self.resize)
        if self.num_crops not in (1, 3):
            raise ValueError(f"num_crops={self.num_crops}: must be 1 (center) or 3 (along the longer side)")

    def __call__(self, clip: Tensor) -> tuple[Tensor, Window]:
        """Maps uint8 (T, H, W, C) to uint8 (T, H', W', C), which is the window with all of `spatial_crops`.

        The shorter of H' and W' is `crop_size`; both are with one crop.
        """
        clip = _resize_to_fit(_resize(clip, self.resize), self.crop_size, self.crop_size)
        window = self.window(_frame(clip))
        return _cut(clip, window), window

    def keeps(self, frame: Size) -> bool:
        """Whether frames of this (height, width) are cut as they are, without being resized before."""
        return _keeps(frame, self.resize) and min(frame) >= self.crop_size

    def window(self, frame: Size) -> Window:
        """What is cut out of frames of this (height, width), resized already where they have to be."""
        return window_around(crop_windows(frame, self.crop_size, self.num_crops))


def _resize(clip: Tensor, size: int | tuple[int, int] | None) -> Tensor:
    if size is None:
        return clip
    return resize_short_side(clip, size) if isinstance(size, int) else resize(clip, size)


def _keeps(frame: Size, size: int | Size | None) -> bool:
    """Whether `_resize` would give frames of this (height, width) back as they are."""
    return size is None or (min(frame) == size if isinstance(size, int) else frame == tuple(size))


def _resize_to_fit(clip: Tensor, height: int, width: int) -> Tensor:
    """The clip itself where it covers (height, width), else the smallest enlargement, proportions kept, that does."""
    _check(clip)
    have_height, have_width = clip.shape[1:3]
    if have_height >= height and have_width >= width:
        return clip
    factor = max(height / have_height, width / have_width)
    return resize(clip, (max(height, round(have_height * factor)), max(width, round(have_width * factor))))


def _frame(clip: Tensor) -> Size:
    return clip.shape[1], clip.shape[2]


def _cut(clip: Tensor, window: Window) -> Tensor:
    """The window's part of a clip, not copied where it is in one piece; mirroring is the caller's."""
    rows = slice(window.top, window.top + window.height)
    return clip[:, rows, window.left : window.left + window.width].contiguous()


def _pair(size: int | Size) -> Size:
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        raise ValueError(f"size={size}: must be at least 1 pixel")
    return height, width


def _check(clip: Tensor) -> None:
    if clip.dtype != torch.uint8 or clip.ndim != 4 or 0 in clip.shape:
        raise ValueError(f"clip must be uint8 (T, H, W, C) and not empty, not {clip.dtype} {tuple(clip.shape)}")


def _check_ranges(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"scale={scale}: must be two ascending shares of the area in (0, 1]")
    if not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"ratio={ratio}: must be two ascending positive numbers, width / height")


def _check_sizes(crop_size: int, size: int | tuple[int, int] | None) -> None:
    if crop_size < 1:
        raise ValueError(f"crop_size={crop_size}: must be at least 1 pixel")
    if size is not None and min(_pair(size)) < 1:
        raise ValueError(f"resize={size}: must be at least 1 pixel")
