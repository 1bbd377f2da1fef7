"""Pixel operations, on numbers that can be checked by hand."""

import numpy as np
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from datamodules.transforms import pixel_operations as pixels
from datamodules.transforms.batched_steps import AugmentationStep
from datamodules.transforms.color_jitter import ColorJitter
from datamodules.transforms.rand_augment import RandAugment


def of_one(name: str, clip: torch.Tensor, *values: object) -> torch.Tensor:
    """An operation on a batch of one clip, (T, H, W, C)."""
    batched = [torch.tensor([value], dtype=torch.float64) for value in values]
    if hasattr(pixels, f"{name}_table"):
        return pixels.look_up(clip[None], getattr(pixels, f"{name}_table")(clip[None], *(batched or [torch.zeros(1)])))[
            0
        ]
    return getattr(pixels, name)(clip[None], *batched)[0]


def rotate(clip: torch.Tensor, degrees: float) -> torch.Tensor:
    return RandAugment.apply(clip[None], [[AugmentationStep("rotate", degrees)]])[0]


def grays(*rows: list[int]) -> torch.Tensor:
    """uint8 (1, H, W, 3): a gray picture of the given rows."""
    return torch.tensor(rows, dtype=torch.uint8)[None, :, :, None].repeat(1, 1, 1, 3)


def rows(clip: torch.Tensor, channel: int = 0) -> list[list[int]]:
    return clip[0, ..., channel].tolist()


def pixel(*rgb: int) -> torch.Tensor:
    return torch.tensor(rgb, dtype=torch.uint8).reshape(1, 1, 1, 3)


def test_brightness_multiplies_and_stops_at_white():
    assert rows(of_one("brightness", grays([0, 100, 200]), 1.5)) == [[0, 150, 255]]
    assert rows(of_one("brightness", grays([0, 100, 201]), 0.5)) == [[0, 50, 100]]  # 100.5 to the even level


def test_contrast_turns_about_the_mean_of_the_whole_clip():
    assert rows(of_one("contrast", grays([50, 100, 150]), 0.5)) == [[75, 100, 125]]
    assert rows(of_one("contrast", grays([50, 100, 150]), 1.5)) == [[25, 100, 175]]
    two = torch.cat([grays([50]), grays([150])])
    assert of_one("contrast", two, 0.5)[:, 0, 0, 0].tolist() == [75, 125]


def test_color_goes_to_the_pixels_own_gray():
    # 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2
    assert of_one("color", pixel(200, 100, 50), 0.0).flatten().tolist() == [124, 124, 124]
    assert of_one("color", pixel(200, 100, 50), 1.0).flatten().tolist() == [200, 100, 50]
    assert of_one("color", pixel(200, 100, 50), 1.5).flatten().tolist() == [238, 88, 13]


def test_sharpness_blurs_to_the_weighted_mean_and_keeps_the_border():
    spot = grays([0, 0, 0], [0, 130, 0], [0, 0, 0])
    assert rows(of_one("sharpness", spot, 0.0)) == [[0, 0, 0], [0, 50, 0], [0, 0, 0]]  # 5 / 13 of 130
    assert rows(of_one("sharpness", spot, 1.5)) == [[0, 0, 0], [0, 170, 0], [0, 0, 0]]
    corner = grays([13, 0, 0], [0, 0, 0], [0, 0, 0])
    assert rows(of_one("sharpness", corner, 0.0))[1] == [0, 1, 0]


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "solarize", "posterize", "sharpness"])
def test_rand_augment_has_these_operations_by_name(name):
    clip = torch.randint(50, 200, (2, 18, 19, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    value = 3.0
    assert not torch.equal(of_one(name, clip, value), clip)
    assert torch.equal(RandAugment.apply(clip[None], [[AugmentationStep(name, value)]])[0], of_one(name, clip, value))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "hue"])
def test_color_jitter_has_them_too(name):
    clip = torch.randint(50, 200, (2, 18, 19, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    theirs, value = {"saturation": "color"}.get(name, name), 0.4
    expected = of_one(theirs, clip, value)
    assert not torch.equal(expected, clip)
    assert torch.equal(ColorJitter.apply(clip[None], [[AugmentationStep(name, value)]])[0], expected)
    if name != "hue":
        assert torch.equal(RandAugment.apply(clip[None], [[AugmentationStep(theirs, value)]])[0], expected)


def test_solarize_and_posterize():
    assert rows(of_one("solarize", grays([0, 127, 128, 255]), 128)) == [[0, 127, 127, 0]]
    assert rows(of_one("solarize", grays([0, 255]), 256)) == [[0, 255]]
    assert rows(of_one("posterize", grays([0, 15, 16, 255]), 4)) == [[0, 0, 16, 240]]
    assert rows(of_one("posterize", grays([7, 255]), 8)) == [[7, 255]]


def test_autocontrast_stretches_each_channel():
    clip = torch.stack([torch.tensor([50, 100, 150]), torch.tensor([7, 7, 7]), torch.tensor([0, 10, 255])], dim=1)
    clip = clip.to(torch.uint8).reshape(1, 1, 3, 3)
    result = of_one("autocontrast", clip)
    assert [rows(result, channel) for channel in range(3)] == [[[0, 128, 255]], [[7, 7, 7]], [[0, 10, 255]]]


def test_equalize_spreads_the_levels():
    # 510 pixels of 100, 255 of 101, 255 of 102: steps of (1020 - 255) / 255 = 3 pixels.
    values = torch.tensor([100] * 510 + [101] * 255 + [102] * 255, dtype=torch.uint8)
    result = of_one("equalize", values.reshape(1, 20, 51, 1).repeat(1, 1, 1, 3))
    assert result.flatten()[::3].unique_consecutive().tolist() == [0, 170, 255]
    assert rows(of_one("equalize", grays([5, 5, 5]))) == [[5, 5, 5]]


def test_shifts_and_quarter_turns_move_whole_pixels():
    picture = grays([1, 2, 3], [4, 5, 6], [7, 8, 9])
    assert rows(of_one("affine", picture, (1, 0, 0, 1), (-1, 0))) == [[128, 1, 2], [128, 4, 5], [128, 7, 8]]
    assert rows(of_one("affine", picture, (1, 0, 0, 1), (0, 2))) == [[7, 8, 9], [128] * 3, [128] * 3]
    assert rows(rotate(picture, 90)) == [[3, 6, 9], [2, 5, 8], [1, 4, 7]]  # counterclockwise
    assert rows(rotate(picture, 180)) == [[9, 8, 7], [6, 5, 4], [3, 2, 1]]
    assert rows(of_one("affine", picture, (1, 1, 0, 1), (0, 0))) == [
        [128, 1, 2],
        [4, 5, 6],
        [8, 9, 128],
    ]  # sheared along x


@pytest.mark.parametrize(
    ("turns", "expected"), [(1 / 3, (0, 200, 0)), (-1 / 3, (0, 0, 200)), (1 / 6, (200, 200, 0)), (0.5, (0, 200, 200))]
)
def test_hue_goes_around_the_circle(turns, expected):
    assert tuple(of_one("hue", pixel(200, 0, 0), turns).flatten().tolist()) == expected
    assert tuple(of_one("hue", pixel(90, 90, 90), turns).flatten().tolist()) == (90, 90, 90)


def test_hue_agrees_with_the_standard_library():
    import colorsys

    generator = np.random.default_rng(0)
    colors = generator.integers(0, 256, (200, 3), dtype=np.uint8)
    found = of_one("hue", torch.from_numpy(colors).reshape(1, 10, 20, 3), 0.13).reshape(200, 3)
    for color, shifted in zip(colors.tolist(), found.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(level / 255 for level in color))
        expected = [255 * level for level in colorsys.hsv_to_rgb((hue + 0.13) % 1, saturation, value)]
        assert shifted == pytest.approx(expected, abs=0.51)


def test_counts_do_not_depend_on_how_many_histograms_are_added_up():
    clips = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 7, 5, 3), dtype=np.uint8))
    counts = pixels.level_counts(clips, 1)
    assert torch.equal(pixels.level_counts(clips, 7), counts)
    expected = torch.stack([torch.bincount(clips[1, ..., channel].flatten(), minlength=256) for channel in range(3)])
    assert torch.equal(counts[1], expected)


def largest_allocation(call) -> int:
    """Bytes of the largest piece of memory that a call asks for, by any operator within."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        call()
    return max(event.self_cpu_memory_usage for event in profiled.events())


def test_levels_are_looked_up_and_counted_by_indices_of_four_bytes():
    generator = np.random.default_rng(0)
    clips = torch.from_numpy(generator.integers(0, 256, (2, 3, 64, 64, 3), dtype=np.uint8))
    tables = torch.from_numpy(generator.integers(0, 256, (2, 3, 256), dtype=np.uint8))
    expected = [tables[clip, channel][clips[clip, ..., channel].long()] for clip in (0, 1) for channel in range(3)]
    found = pixels.look_up(clips, tables)
    assert torch.equal(found.movedim(4, 1).flatten(0, 1), torch.stack(expected))
    assert largest_allocation(lambda: pixels.look_up(clips, tables)) == 4 * clips.numel()
    assert largest_allocation(lambda: pixels.level_counts(clips, 3)) <= 4 * clips.numel()
