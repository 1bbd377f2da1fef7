"""Pixel operations for augmentation: pure functions on uint8 tensors (T, H, W, C), on any device.

All frames of a clip are treated equally, and statistics (mean, histogram) are taken over the whole clip: a clip that
brightens still does. Results are uint8 again, rounded to the nearest level. Most functions compute in integers or
look levels up in a table of 256, so that results do not depend on the number of threads.

The operations are those of AutoAugment (Cubuk et al. 2019, table 6), which defined them by the Python Imaging Library.
Difference: PIL takes statistics of one image, and truncates fractions instead of rounding them.
"""

import math

import torch
from torch import Tensor

GRAY = 128  # fill value for pixels from outside the frame


def brightness(clip: Tensor, factor: float) -> Tensor:
    """Multiplies every value; 0 gives black."""
    return _look_up(clip, _levels(clip) * factor)


def contrast(clip: Tensor, factor: float) -> Tensor:
    """Scales the distance of every value from the clip's mean gray level; 0 gives that gray."""
    mean = _luma(clip).double().mean().round()  # stays on the device, no synchronization
    return _look_up(clip, mean + (_levels(clip) - mean) * factor)


def color(clip: Tensor, factor: float) -> Tensor:
    """Saturation: scales the distance of every pixel from its own gray level; 0 gives gray images."""
    gray = _luma(clip)[..., None].float()
    return _rounded(gray + (clip.float() - gray) * factor)


def sharpness(clip: Tensor, factor: float) -> Tensor:
    """Scales the distance of every pixel from the mean of its neighborhood (weights 1, its own 5, sum 13).

    The outermost pixels stay unchanged.
    """
    if min(clip.shape[1:3]) < 3:
        return clip.clone()
    height, width = clip.shape[1:3]
    whole = clip.to(torch.int16)
    total = 4 * whole[:, 1:-1, 1:-1]
    for down in range(3):
        for right in range(3):
            total = total + whole[:, down : height - 2 + down, right : width - 2 + right]
    smooth = torch.div(total + 6, 13, rounding_mode="floor").float()
    result = clip.clone()
    result[:, 1:-1, 1:-1] = _rounded(smooth + (clip[:, 1:-1, 1:-1].float() - smooth) * factor)
    return result


def solarize(clip: Tensor, threshold: int) -> Tensor:
    """Inverts all values of at least `threshold`; 256 inverts none."""
    return torch.where(clip >= threshold, 255 - clip, clip) if threshold < 256 else clip.clone()


def posterize(clip: Tensor, bits: int) -> Tensor:
    """Keeps the highest `bits` bits of every value."""
    return clip & (0xFF << (8 - bits) & 0xFF)


def autocontrast(clip: Tensor) -> Tensor:
    """Stretches each channel so that its darkest value becomes 0 and its brightest 255."""
    low, high = clip.amin(dim=(0, 1, 2)).double(), clip.amax(dim=(0, 1, 2)).double()
    factor = torch.where(high > low, 255 / (high - low).clamp(min=1), 1.0)
    offset = torch.where(high > low, low, 0.0)
    return _look_up(clip, (_levels(clip)[:, None] - offset) * factor)


def equalize(clip: Tensor) -> Tensor:
    """Equalizes the histogram of each channel, as far as whole levels allow.

    As in PIL: a value becomes the number of darker pixels plus half a step, in steps of (number of pixels without
    those of the brightest value) / 255.
    """
    tables = []
    for channel in range(clip.shape[3]):
        values = clip[..., channel].flatten().long()
        counts = values.new_zeros(256).scatter_add_(0, values, torch.ones_like(values))
        brightest = counts.gather(0, values.max()[None])
        step = torch.div(len(values) - brightest, 255, rounding_mode="floor")
        darker = counts.cumsum(0) - counts
        mapped = torch.div(darker + step // 2, step.clamp(min=1), rounding_mode="floor")
        tables.append(torch.where(step > 0, mapped, _levels(clip).long()))
    return _look_up(clip, torch.stack(tables, dim=1).double())


def affine(clip: Tensor, matrix: tuple[float, float, float, float], shift: tuple[float, float] = (0.0, 0.0)) -> Tensor:
    """Rotates, shears or shifts by nearest-neighbor sampling; places outside the source become `GRAY`.

    Args:
        clip: uint8 (T, H, W, C).
        matrix: (a, b, c, d), maps a place (x, y) of the result, relative to the center, to (a x + b y, c x + d y) in
            the source.
        shift: (x, y) in pixels, added to the mapped place.
    """
    height, width = clip.shape[1:3]
    y = torch.arange(height, dtype=torch.float64, device=clip.device)[:, None] - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float64, device=clip.device)[None, :] - (width - 1) / 2
    a, b, c, d = matrix
    # A small number is added so that places midway between two pixels round the same way on every device.
    from_x = (a * x + b * y + shift[0] + (width - 1) / 2 + 1e-6).round().long()
    from_y = (c * x + d * y + shift[1] + (height - 1) / 2 + 1e-6).round().long()
    outside = (from_x < 0) | (from_x >= width) | (from_y < 0) | (from_y >= height)
    places = from_y.clamp(0, height - 1) * width + from_x.clamp(0, width - 1)
    moved = clip.flatten(1, 2)[:, places.flatten()].view_as(clip)
    return moved.masked_fill_(outside[None, :, :, None], GRAY)


def rotate(clip: Tensor, degrees: float) -> Tensor:
    """Rotates the picture counterclockwise about its center."""
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    return affine(clip, (cosine, -sine, sine, cosine))


def hue(clip: Tensor, turns: float) -> Tensor:
    """Shifts the hue around the color circle: a third of a turn turns red into green. Value and saturation stay."""
    red, green, blue = clip.float().unbind(dim=3)
    high = torch.maximum(torch.maximum(red, green), blue)
    spread = high - torch.minimum(torch.minimum(red, green), blue)
    safe = spread.clamp(min=1)
    sector = torch.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    sector = torch.where(high == red, (green - blue) / safe, sector)  # sixths of the color circle, from red
    # A channel is `high` in the two sectors around its own color, `low` in the opposite two, and a ramp in between.
    channels = []
    for own in (0, 2, 4):
        distance = (sector + 6 * turns - own + 3).remainder(6).sub(3).abs()
        channels.append(high - spread * (distance - 1).clamp(0, 1))
    return _rounded(torch.stack(channels, dim=3))


def _luma(clip: Tensor) -> Tensor:
    """Gray levels (T, H, W), int32: 0.299 R + 0.587 G + 0.114 B, rounded."""
    red, green, blue = clip.to(torch.int32).unbind(dim=3)
    return torch.div(299 * red + 587 * green + 114 * blue + 500, 1000, rounding_mode="floor")


def _levels(clip: Tensor) -> Tensor:
    return torch.arange(256, dtype=torch.float64, device=clip.device)


def _look_up(clip: Tensor, table: Tensor) -> Tensor:
    """Looks every value up in a table: (256,), or (256, C) with one column per channel."""
    levels = _rounded(table)
    if levels.ndim == 1:
        return levels[clip.int()]
    return torch.stack([column[values.int()] for column, values in zip(levels.T, clip.unbind(3), strict=True)], dim=3)


def _rounded(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)
