"""Resizing, cropping and flipping, on numbers that can be checked by hand."""

import numpy as np
import pytest
import torch

from datamodules.resize_and_crop import (
    center_crop,
    horizontal_flip,
    random_crop,
    random_resized_crop,
    resize,
    resize_short_side,
    spatial_crops,
    three_crops,
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


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [((10, 20), 4, [3, 8]), ((5, 6), 4, [0, 1]), ((4, 4), 4, [0, 0]), ((8, 6), (2, 4), [3, 1])],
)
def test_center_crop_starts_at_half_the_remainder(shape, size, expected):
    clip = center_crop(coordinates(2, *shape), size)
    height, width = (size, size) if isinstance(size, int) else size
    assert clip.shape == (2, height, width, 3)
    assert corner(clip) == expected
    assert clip.is_contiguous()


def test_random_crop_reaches_every_place_equally_and_is_repeatable():
    clip = coordinates(2, 6, 5)
    generator = np.random.default_rng(1)
    corners = [tuple(corner(random_crop(clip, 4, generator))) for _ in range(600)]
    counts = {place: corners.count(place) for place in set(corners)}
    assert set(counts) == {(y, x) for y in range(3) for x in range(2)}
    assert min(counts.values()) > 60  # 100 expected, standard deviation 9
    again = np.random.default_rng(1)
    assert [tuple(corner(random_crop(clip, 4, again))) for _ in range(600)] == corners


def test_random_crop_cuts_the_same_window_of_all_frames():
    clip = random_crop(coordinates(3, 20, 20), 5, np.random.default_rng(0))
    assert torch.equal(clip[0, ..., 1:], clip[2, ..., 1:])
    assert clip[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_random_resized_crop_keeps_to_scale_and_ratio():
    clip = coordinates(1, 120, 160)
    generator = np.random.default_rng(0)
    for _ in range(50):
        result = random_resized_crop(clip, 32, generator, scale=(0.25, 0.5), ratio=(0.8, 1.25))[0].int()
        # Coordinates grow linearly over the result: their spread over 31 of 32 pixels tells the window's sides.
        height = (result[-1, 0, 1] - result[0, 0, 1]).item() * 32 / 31
        width = (result[0, -1, 2] - result[0, 0, 2]).item() * 32 / 31
        assert 0.2 < height * width / (120 * 160) < 0.56
        assert 0.7 < width / height < 1.45
        assert result[..., 2].max() <= 159


def test_random_resized_crop_of_an_impossible_ratio_takes_the_center():
    result = random_resized_crop(coordinates(1, 4, 200), 4, np.random.default_rng(0), scale=(1, 1), ratio=(1, 1))
    assert corner(result) == [0, 98]


def test_horizontal_flip_mirrors_columns_only():
    clip = coordinates(2, 3, 4)
    assert horizontal_flip(clip)[1, 2, :, 2].tolist() == [3, 2, 1, 0]
    assert torch.equal(horizontal_flip(horizontal_flip(clip)), clip)
    assert horizontal_flip(clip).is_contiguous()


@pytest.mark.parametrize(
    ("shape", "expected"), [((4, 10), [[0, 0], [0, 3], [0, 6]]), ((11, 4), [[0, 0], [3, 0], [7, 0]])]
)
def test_three_crops_go_along_the_longer_side(shape, expected):
    crops = three_crops(coordinates(2, *shape), 4)
    assert [corner(crop) for crop in crops] == expected
    assert all(crop.shape == (2, 4, 4, 3) and crop.is_contiguous() for crop in crops)
    assert corner(spatial_crops(coordinates(2, *shape), 4, 1)[0]) == expected[1]


@pytest.mark.parametrize("shape", [(10, 30), (30, 10), (1, 1), (31, 40)])
def test_a_clip_too_small_for_its_crop_is_enlarged(shape):
    clip = coordinates(2, *shape)
    assert center_crop(clip, 32).shape == (2, 32, 32, 3)
    assert random_crop(clip, 32, np.random.default_rng(0)).shape == (2, 32, 32, 3)
    assert random_resized_crop(clip, 32, np.random.default_rng(0)).shape == (2, 32, 32, 3)
    assert [crop.shape for crop in three_crops(clip, 32)] == [(2, 32, 32, 3)] * 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spatial_crops(coordinates(1, 4, 4), 2, 5), "num_crops=5"),
        (lambda: center_crop(coordinates(1, 4, 4).float(), 2), "float32"),
        (lambda: resize(coordinates(1, 4, 4)[0], (2, 2)), "clip must be uint8"),
        (lambda: resize(coordinates(1, 4, 4), (0, 2)), "size="),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
