"""Pixel operations for augmentation: pure functions on batches of uint8 clips (N, T, H, W, C), on any device.

Each clip has a value of its own, (N,), and all clips take a few kernels together. All frames of a clip are treated
equally, and statistics (mean, histogram) are taken over the whole clip: a clip that brightens still does. Operations
that map each level to another one are tables, uint8 (N, C, 256), which `look_up` applies. Results are uint8 again,
rounded to the nearest level. Most functions compute in integers or look levels up, so that results do not depend on
the number of threads, nor on the other clips of the batch.

The operations are those of AutoAugment (Cubuk et al. 2019, table 6), which defined them by the Python Imaging Library.
Difference: PIL takes statistics of one image, and truncates fractions instead of rounding them.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

GRAY = 128  # fill value for pixels from outside the frame
_HISTOGRAMS_ON_GPU = 512  # of each channel, added up afterwards: fewer threads add to the same count


def look_up(clips: Tensor, tables: Tensor) -> Tensor:
    """Looks every value up in the table of its clip and channel: uint8 (N, C, 256), or (N, 1, 256) for all channels."""
    levels = clips.int()
    if tables.shape[0] * tables.shape[1] > 1:
        levels += 256 * _numbers(tables.shape[:2], clips.device, torch.int32)[:, None, None, None]
    # Unlike indexing, which converts indices to int64, another 8 bytes a value.
    return tables.flatten().index_select(0, levels.flatten()).view(levels.shape)


# Tables of levels: functions of the clips and values, float64 (N,), to uint8 (N, C, 256), or (N, 1, 256).


def brightness_table(clips: Tensor, factors: Tensor) -> Tensor:
    """Multiplies every value; 0 gives black."""
    return _rounded(_levels(clips) * factors[:, None, None])


def contrast_table(clips: Tensor, factors: Tensor) -> Tensor:
    """Scales the distance of every value from the clip's mean gray level; 0 gives that gray."""
    means = _luma(clips).flatten(1).double().mean(dim=1).round()[:, None, None]  # stays on the device
    return _rounded(means + (_levels(clips) - means) * factors[:, None, None])


def solarize_table(clips: Tensor, thresholds: Tensor) -> Tensor:
    """Inverts all values of at least the threshold; 256 inverts none."""
    levels = _levels(clips)
    return _rounded(torch.where(levels >= thresholds[:, None, None], 255 - levels, levels))


def posterize_table(clips: Tensor, bits: Tensor) -> Tensor:
    """Keeps the highest bits of every value."""
    levels = _levels(clips)
    return _rounded(levels - levels.remainder(2 ** (8 - bits[:, None, None])))


def autocontrast_table(clips: Tensor, _: Tensor) -> Tensor:
    """Stretches each channel so that its darkest value becomes 0 and its brightest 255."""
    low, high = clips.amin(dim=(1, 2, 3)).double(), clips.amax(dim=(1, 2, 3)).double()
    factors = torch.where(high > low, 255 / (high - low).clamp(min=1), 1.0)
    offsets = torch.where(high > low, low, 0.0)
    return _rounded((_levels(clips) - offsets[..., None]) * factors[..., None])


def equalize_table(clips: Tensor, _: Tensor) -> Tensor:
    """Equalizes the histogram of each channel, as far as whole levels allow.

    As in PIL: a value becomes the number of darker pixels plus half a step, in steps of (number of pixels without
    those of the brightest value) / 255.
    """
    counts = level_counts(clips, _HISTOGRAMS_ON_GPU if clips.is_cuda else 1)
    brightest = counts.gather(2, clips.amax(dim=(1, 2, 3)).long()[..., None])
    steps = torch.div(counts.sum(dim=2, keepdim=True) - brightest, 255, rounding_mode="floor")
    darker = counts.cumsum(2) - counts
    mapped = torch.div(darker + steps // 2, steps.clamp(min=1), rounding_mode="floor")
    return _rounded(torch.where(steps > 0, mapped, _levels(clips).long()))


def level_counts(clips: Tensor, num_histograms: int) -> Tensor:
    """Number of pixels of each level: int64 (N, C, 256).

    Args:
        clips: uint8 (N, T, H, W, C).
        num_histograms: histograms that pixels are divided among, before they are added up.
    """
    first = 256 * _numbers((len(clips), num_histograms), clips.device, torch.int32)
    if num_histograms > 1:
        owners = _numbers((math.prod(clips.shape[1:4]),), clips.device, torch.int32) % num_histograms
        offsets = first[:, :1] + 256 * owners
    else:
        offsets = first
    one = torch.ones(1, dtype=torch.int32, device=clips.device)
    counts = []
    for channel in clips.unbind(dim=4):
        places = channel.flatten(1).int()
        places += offsets
        found = torch.zeros(first.numel() * 256, dtype=torch.int32, device=clips.device)
        found.index_add_(0, places.flatten(), one.expand(places.numel()))
        counts.append(found.view(len(clips), num_histograms, 256).sum(dim=1))
    return torch.stack(counts, dim=1)


# Other operations: functions of the clips and values to clips.


def color(clips: Tensor, factors: Tensor) -> Tensor:
    """Saturation: scales the distance of every pixel from its own gray level; 0 gives gray images."""
    gray = _luma(clips)[..., None].float()
    return _rounded(gray + (clips.float() - gray) * _of_clips(factors))


def sharpness(clips: Tensor, factors: Tensor) -> Tensor:
    """Scales the distance of every pixel from the mean of its neighborhood (weights 1, its own 5, sum 13).

    The outermost pixels stay unchanged.
    """
    height, width = clips.shape[2:4]
    if min(height, width) < 3:
        return clips.clone()
    whole = clips.to(torch.int16)
    total = 4 * whole[:, :, 1:-1, 1:-1]
    for down in range(3):
        for right in range(3):
            total = total + whole[:, :, down : height - 2 + down, right : width - 2 + right]
    smooth = torch.div(total + 6, 13, rounding_mode="floor").float()
    result = clips.clone()
    result[:, :, 1:-1, 1:-1] = _rounded(smooth + (clips[:, :, 1:-1, 1:-1].float() - smooth) * _of_clips(factors))
    return result


def affine(clips: Tensor, matrices: Tensor, shifts: Tensor) -> Tensor:
    """Rotates, shears or shifts by nearest-neighbor sampling; places outside the source become `GRAY`.

    Args:
        clips: uint8 (N, T, H, W, C).
        matrices: float64 (N, 4), each (a, b, c, d), maps a place (x, y) of the result, relative to the center, to
            (a x + b y, c x + d y) in the source.
        shifts: float64 (N, 2), each (x, y) in pixels, added to the mapped place.
    """
    height, width = clips.shape[2:4]
    y = torch.arange(height, dtype=torch.float64, device=clips.device)[:, None] - (height - 1) / 2
    x = torch.arange(width, dtype=torch.float64, device=clips.device)[None, :] - (width - 1) / 2
    a, b, c, d = matrices.T[..., None, None]
    across, down = shifts.T[..., None, None]
    # A small number is added so that places midway between two pixels round the same way on every device.
    from_x = (a * x + b * y + across + (width - 1) / 2 + 1e-6).round().long()
    from_y = (c * x + d * y + down + (height - 1) / 2 + 1e-6).round().long()
    outside = (from_x < 0) | (from_x >= width) | (from_y < 0) | (from_y >= height)
    places = (from_y.clamp(0, height - 1) * width + from_x.clamp(0, width - 1)).flatten(1)
    rows = clips.flatten(2, 3)
    if len(clips) == 1:  # a simpler loop
        moved = rows[:, :, places[0]].view_as(clips)
    else:
        numbers, frames = (torch.arange(size, device=clips.device) for size in clips.shape[:2])
        moved = rows[numbers[:, None, None], frames[:, None], places[:, None]].view_as(clips)
    return moved.masked_fill_(outside[:, None, :, :, None], GRAY)


def hue(clips: Tensor, turns: Tensor) -> Tensor:
    """Shifts the hue around the color circle: a third of a turn turns red into green. Value and saturation stay."""
    red, green, blue = clips.float().unbind(dim=4)
    high = torch.maximum(torch.maximum(red, green), blue)
    spread = high - torch.minimum(torch.minimum(red, green), blue)
    safe = spread.clamp(min=1)
    sector = torch.where(high == green, 2 + (blue - red) / safe, 4 + (red - green) / safe)
    sector = torch.where(high == red, (green - blue) / safe, sector)  # sixths of the color circle, from red
    sector = sector + _of_clips(6 * turns)[..., 0]
    # A channel is `high` in the two sectors around its own color, `low` in the opposite two, and a ramp in between.
    channels = []
    for own in (0, 2, 4):
        distance = (sector - own + 3).remainder(6).sub(3).abs()
        channels.append(high - spread * (distance - 1).clamp(0, 1))
    return _rounded(torch.stack(channels, dim=4))


def _of_clips(values: Tensor) -> Tensor:
    """A value a clip, float32, along the axes of clips."""
    return values.float()[:, None, None, None, None]


def _luma(clips: Tensor) -> Tensor:
    """Gray levels (N, T, H, W), int32: 0.299 R + 0.587 G + 0.114 B, rounded."""
    red, green, blue = clips.to(torch.int32).unbind(dim=4)
    return torch.div(299 * red + 587 * green + 114 * blue + 500, 1000, rounding_mode="floor")


def _levels(clips: Tensor) -> Tensor:
    return torch.arange(256, dtype=torch.float64, device=clips.device)


def _numbers(shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """The numbers from 0 in the given shape, row by row."""
    return torch.arange(math.prod(shape), dtype=dtype, device=device).view(*shape)


def _rounded(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)
