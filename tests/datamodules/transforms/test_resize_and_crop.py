"""Resizing, cropping and flipping, on numbers that can be checked by hand."""

import numpy as np
import pytest
import torch

from datamodules.transforms.resize_and_crop import (
    horizontal_flip,
    resize,
    resize_short_side,
    spatial_crops,
)


def coordinates(frames: int, height: int, width: int) -> torch.Tensor:
    """uint8 (T, H, W, 3) whose pixel (t, y, x) is [t, y, x]: a crop shows where it was cut."""
    grid = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    return torch.from_numpy(np.stack(grid, axis=-1).astype(np.uint8))


def corner(clip: torch.Tensor) -> list[int]:
    return clip[0, 0, 0, 1:].tolist()


def test_resize_halves_a_ramp_by_averaging_neighbors():
    row = torch.tensor([0, 10, 100, 110], dtype=torch.uint8)
    clip = row.reshape(1, 1, 4, 1).repeat(1, 4, 1, 3)
    result = resize(clip, (4, 2))
    assert result.shape == (1, 4, 2, 3)
    # The antialiasing triangle of radius 2 around x = 1 weighs pixel centers 0.5, 1.5, 2.5 by 3/7, 3/7, 1/7.
    assert result[0, 0, :, 0].tolist() == [round((3 * 0 + 3 * 10 + 100) / 7), round((10 + 3 * 100 + 3 * 110) / 7)]


def test_resize_keeps_constants_and_the_range():
    assert torch.equal(
        resize(torch.full((2, 7, 9, 3), 255, dtype=torch.uint8), (13, 4)), torch.full((2, 13, 4, 3), 255).byte()
    )
    steps = torch.tensor([0, 255] * 8, dtype=torch.uint8).reshape(1, 1, 16, 1).repeat(1, 16, 1, 3)
    assert resize(steps, (33, 35)).float().sub(127.5).abs().max() <= 127.5


def test_resize_treats_all_frames_alike():
    one = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 17, 23, 3), dtype=np.uint8))
    both = resize(one.repeat(2, 1, 1, 1), (9, 11))
    assert torch.equal(both[0], both[1])
    assert torch.equal(both[:1], resize(one, (9, 11)))


@pytest.mark.parametrize(
    ("shape", "short", "expected"),
    [((256, 340), 128, (128, 170)), ((340, 256), 128, (170, 128)), ((60, 60), 90, (90, 90)), ((3, 1000), 2, (2, 666))],
)
def test_resize_short_side_keeps_proportions(shape, short, expected):
    assert resize_short_side(coordinates(1, *shape), short).shape == (1, *expected, 3)


def test_horizontal_flip_mirrors_columns_only():
    clip = coordinates(2, 3, 4)
    assert horizontal_flip(clip)[1, 2, :, 2].tolist() == [3, 2, 1, 0]
    assert torch.equal(horizontal_flip(horizontal_flip(clip)), clip)
    assert horizontal_flip(clip).is_contiguous()


@pytest.mark.parametrize(
    ("shape", "expected"), [((4, 10), [[0, 0], [0, 3], [0, 6]]), ((11, 4), [[0, 0], [3, 0], [7, 0]])]
)
def test_crops_go_along_the_longer_side(shape, expected):
    crops = spatial_crops(coordinates(2, *shape), 4, 3)
    assert [corner(crop) for crop in crops] == expected
    assert all(crop.shape == (2, 4, 4, 3) and crop.is_contiguous() for crop in crops)
    assert corner(spatial_crops(coordinates(2, *shape), 4, 1)[0]) == expected[1]


@pytest.mark.parametrize("shape", [(10, 30), (30, 10), (1, 1), (31, 40)])
def test_a_clip_too_small_for_its_crop_is_enlarged(shape):
    clip = coordinates(2, *shape)
    assert [crop.shape for crop in spatial_crops(clip, 32, 3)] == [(2, 32, 32, 3)] * 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spatial_crops(coordinates(1, 4, 4), 2, 5), "num_crops=5"),
        (lambda: resize(coordinates(1, 4, 4).float(), (2, 2)), "float32"),
        (lambda: resize(coordinates(1, 4, 4)[0], (2, 2)), "clip must be uint8"),
        (lambda: resize(coordinates(1, 4, 4), (0, 2)), "size="),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
