"""Clip transforms of the data loader workers: `TrainTransform` and `EvalTransform`.

They combine the functions of `datamodules.transforms.resize_and_crop`; color augmentation and the cutting of three
test crops happen on the device (`datamodules.transforms.device_augmentation`, `datamodules.transforms.three_crops`).
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from datamodules.batch import Window
from datamodules.sampling.crop_windows import (
    FrameSize,
    crop_windows,
    enclosing_window,
    random_resized_window,
    random_window,
)
from datamodules.transforms.resize_and_crop import (
    check_clip,
    crop,
    frame_size,
    horizontal_flip,
    resize,
    resize_short_side,
    resize_to_fit,
)


@dataclass(frozen=True)
class TrainTransform:
    """Training transform: resize, random crop, random horizontal flip.

    C3D (Tran et al. 2015, section 3.1): `TrainTransform(112, (128, 171))`; I3D (Carreira and Zisserman 2017,
    section 2.5): `TrainTransform(224, 256)`.

    Attributes:
        crop_size: side of the square crop in pixels.
        resize: size before the crop: the shorter side in pixels, or (height, width), or None to keep the size.
        random_resized: crop a random area and aspect ratio, and resize the crop to `crop_size`.
        flip_probability: probability that a clip is mirrored; 0 where classes depend on left and right.
        scale: minimum and maximum fraction of the area, with `random_resized`.
        ratio: minimum and maximum width / height, with `random_resized`.
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
        """Maps uint8 (T, H, W, C) to uint8 (T, crop_size, crop_size, C); also returns the window.

        Args:
            clip: uint8 (T, H, W, C).
            generator: the source of randomness; the number of draws does not depend on `mirror`.
            mirror: whether this clip may be mirrored.
        """
        clip = _resize(clip, self.resize)
        if not self.random_resized:
            clip = resize_to_fit(clip, self.crop_size, self.crop_size)
        check_clip(clip)
        window = self.window(frame_size(clip), generator, mirror)
        return self.resize_and_flip(crop(clip, window), window), window

    def crops_without_resize(self, frame: FrameSize) -> bool:
        """Whether frames of this (height, width) are cropped without being resized first."""
        return _is_unchanged(frame, self.resize) and (self.random_resized or min(frame) >= self.crop_size)

    def window(self, frame: FrameSize, generator: np.random.Generator, mirror: bool = True) -> Window:
        """Draws the window to cut from frames of this (height, width), measured after `resize`."""
        if self.random_resized:
            window = random_resized_window(frame, generator, self.scale, self.ratio)
        else:
            window = random_window(frame, (self.crop_size, self.crop_size), generator)
        return window._replace(mirrored=generator.random() < self.flip_probability and mirror)

    def resize_and_flip(self, cropped: Tensor, window: Window) -> Tensor:
        """Resizes the cut-out window of a clip, uint8 (T, H, W, C), to the crop size and mirrors it if required."""
        clip = resize(cropped, (self.crop_size, self.crop_size))
        return horizontal_flip(clip) if window.mirrored else clip


@dataclass(frozen=True)
class EvalTransform:
    """Evaluation transform: resize, and cut the smallest window that contains all crops. Nothing is random.

    One crop is the window itself; three crops are cut from it on the device, so that less data is sent than with
    three separate crops.

    Attributes:
        crop_size: side of the square crops in pixels.
        resize: size before the crops: the shorter side in pixels, or (height, width), or None to keep the size.
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
        """Maps uint8 (T, H, W, C) to uint8 (T, H', W', C), the window that contains all of `spatial_crops`.

        The shorter of H' and W' is `crop_size`; with one crop both are.
        """
        clip = resize_to_fit(_resize(clip, self.resize), self.crop_size, self.crop_size)
        window = self.window(frame_size(clip))
        return crop(clip, window), window

    def crops_without_resize(self, frame: FrameSize) -> bool:
        """Whether frames of this (height, width) are cropped without being resized first."""
        return _is_unchanged(frame, self.resize) and min(frame) >= self.crop_size

    def window(self, frame: FrameSize) -> Window:
        """The window to cut from frames of this (height, width), measured after `resize`."""
        return enclosing_window(crop_windows(frame, self.crop_size, self.num_crops))


def _resize(clip: Tensor, size: int | tuple[int, int] | None) -> Tensor:
    if size is None:
        return clip
    return resize_short_side(clip, size) if isinstance(size, int) else resize(clip, size)


def _is_unchanged(frame: FrameSize, size: int | FrameSize | None) -> bool:
    """Whether `_resize` leaves frames of this (height, width) unchanged."""
    return size is None or (min(frame) == size if isinstance(size, int) else frame == tuple(size))


def _check_sizes(crop_size: int, size: int | tuple[int, int] | None) -> None:
    if crop_size < 1:
        raise ValueError(f"crop_size={crop_size}: must be at least 1 pixel")
    if size is not None and (size if isinstance(size, int) else min(size)) < 1:
        raise ValueError(f"resize={size}: must be at least 1 pixel")


def _check_ranges(scale: tuple[float, float], ratio: tuple[float, float]) -> None:
    """Checks that `datamodules.sampling.crop_windows.random_resized_window` can draw a window from these ranges."""
    if not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(f"scale={scale}: must be two ascending shares of the area in (0, 1]")
    if not 0 < ratio[0] <= ratio[1]:
        raise ValueError(f"ratio={ratio}: must be two ascending positive numbers, width / height")
