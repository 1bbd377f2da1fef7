"""Folders of images as videos: which images, in which order, and decoding of them.

Data sets such as Jester and EPIC-KITCHENS come as folders of JPEG frames. A folder is read as one video only if nothing
speaks against it: frame numbers without a gap, one size, and every image whole.
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from datamodules.video.frame_table import FrameTable
from datamodules.video.mp4_writer import as_rate
from datamodules.video.video_container import (
    ABSENT,
    DAMAGED,
    FRAME_NUMBERS,
    MAX_FRAMES,
    MAX_PIXELS,
    MIXED_SIZES,
    NO_FRAMES,
    TOO_LARGE,
    UNREADABLE,
    DecodeError,
)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

_NUMBERED = re.compile(r"(.*?)(\d+)(\D*)", re.DOTALL)  # the last number of a name, and what is around it


def has_image_suffix(name: str) -> bool:
    """Whether a file of this name is an image, by its suffix; hidden files are none."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not name.startswith(".")  # noqa: PTH122


def is_image_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a folder that has images directly in it."""
    try:
        with os.scandir(path) as entries:
            return any(has_image_suffix(entry.name) for entry in entries)
    except OSError:
        return False


def list_images(folder: str | os.PathLike[str]) -> list[str]:
    """The paths of the images in a folder, in natural order: 2.jpg before 10.jpg. Other files are left out.

    Raises:
        DecodeError: the folder cannot be read (`UNREADABLE`) or has no image (`NO_FRAMES`), or the numbers in its names
            have a gap, occur twice, or belong to several series, such as frames and optical flow (`FRAME_NUMBERS`).
    """
    try:
        names = sorted((path.name for path in Path(folder).iterdir() if has_image_suffix(path.name)), key=_natural_key)
    except OSError as error:
        raise DecodeError(f"the folder cannot be read: {error.strerror}", UNREADABLE) from None
    if not names:
        raise DecodeError(f"the folder has no image ({', '.join(IMAGE_SUFFIXES)})", NO_FRAMES)
    if len(names) > MAX_FRAMES:
        raise DecodeError(f"it has more than {MAX_FRAMES} frames", TOO_LARGE)
    _check_numbers(names)
    return [os.path.join(folder, name) for name in names]  # noqa: PTH118


def image_frame_table(num_images: int, frames_per_second: float) -> FrameTable:
    """The frame table of a folder of images, shown one after the other at a constant rate."""
    rate = as_rate(frames_per_second)
    return FrameTable(list(range(num_images)), 1 / rate, rate, num_images / rate)


def iterate_images(paths: Sequence[str]) -> Iterator[av.VideoFrame]:
    """Decodes images to frames: RGB, upright by their EXIF orientation, without transparency, one at a time.

    Raises:
        DecodeError: an image is absent, cannot be read, is damaged or too large, or has another size than the first.
    """
    size = None
    for path in paths:
        pixels = _read_image(path)
        if size is None:
            size = pixels.shape
        if pixels.shape != size:
            raise DecodeError(
                f"{Path(path).name} is {pixels.shape[1]}x{pixels.shape[0]}, the first image, {Path(paths[0]).name}, is "
                f"{size[1]}x{size[0]}",
                MIXED_SIZES,
            )
        yield av.VideoFrame.from_ndarray(pixels, format="rgb24")


def _read_image(path: str) -> np.ndarray:
    """The pixels of an image file, uint8 (H, W, 3)."""
    name = Path(path).name
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DecodeError(f"{name} is {image.width}x{image.height}, too large for a frame", TOO_LARGE)
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16 bits of gray, which Pillow would clip instead of scale
                upright = Image.fromarray((np.asarray(upright, np.uint32) >> 8).clip(0, 255).astype(np.uint8))
            return np.ascontiguousarray(upright.convert("RGB"))
    except FileNotFoundError:
        raise DecodeError(f"{name} is a link to a file that is not there", ABSENT) from None
    except PermissionError as error:
        raise DecodeError(f"{name} cannot be read: {error.strerror}", UNREADABLE) from None
    except UnidentifiedImageError:
        raise DecodeError(f"{name} is no image, whatever its suffix", DAMAGED) from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DecodeError(f"{name} is damaged: {error}", DAMAGED) from None


def _check_numbers(names: Sequence[str]) -> None:
    """Raises DecodeError unless the names count evenly, or none of them are numbered alike (times, for instance)."""
    series: defaultdict[tuple[str, str], dict[int, str]] = defaultdict(dict)
    for name in names:
        stem = os.path.splitext(name)[0]  # noqa: PTH122
        match = _NUMBERED.fullmatch(stem)
        before, number, after = (match[1], int(match[2]), match[3]) if match else (stem, 0, "")
        other = series[before, after].setdefault(number, name)
        if other != name:
            raise DecodeError(f"{other} and {name} have the same number", FRAME_NUMBERS)
    if len(series) > 1:
        if any(len(numbered) > 1 for numbered in series.values()):
            first, second = (next(iter(numbered.values())) for numbered in list(series.values())[:2])
            raise DecodeError(f"{first} and {second} are of two series of images; keep one", FRAME_NUMBERS)
        return
    (numbered,) = series.values()
    steps = [after - before for before, after in pairwise(sorted(numbered))]
    usual = min(steps, default=1)  # every fifth frame is a series too
    gap = next((place for place, step in enumerate(steps) if step != usual), None)
    if gap is not None:
        before, after = sorted(numbered)[gap : gap + 2]
        missing = sum(steps) // usual - len(steps)
        raise DecodeError(
            f"{numbered[after]} follows {numbered[before]}: {missing} image{'s' * (missing != 1)} of the numbering "
            "missing",
            FRAME_NUMBERS,
        )


def _natural_key(name: str) -> tuple[list[tuple[bool, int, str]], str]:
    """Sort key that compares the numbers in names by value."""
    parts = re.split(r"(\d+)", name)
    return [(not part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in parts if part], name
