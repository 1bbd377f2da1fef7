"""Which part of a frame a clip shows, on numbers that can be checked by hand."""

import numpy as np
import pytest

from datamodules.sampling.crop_windows import center_window, crop_windows, random_resized_window, random_window


@pytest.mark.parametrize(
    ("frame", "size", "corner"),
    [((10, 20), (4, 4), (3, 8)), ((5, 6), (4, 4), (0, 1)), ((4, 4), (4, 4), (0, 0)), ((8, 6), (2, 4), (3, 1))],
)
def test_the_middle_starts_at_half_the_remainder(frame, size, corner):
    assert center_window(frame, size) == (*frame, *corner, *size, False)


def test_a_random_window_is_at_every_place_equally_often_and_repeatable():
    generator, again = np.random.default_rng(1), np.random.default_rng(1)
    windows = [random_window((6, 5), (4, 4), generator) for _ in range(600)]
    corners = [(window.top, window.left) for window in windows]
    counts = {place: corners.count(place) for place in set(corners)}
    assert set(counts) == {(y, x) for y in range(3) for x in range(2)}
    assert min(counts.values()) > 60  # 100 expected, standard deviation 9
    assert [random_window((6, 5), (4, 4), again) for _ in range(600)] == windows


def test_a_random_resized_window_keeps_to_scale_and_ratio():
    generator = np.random.default_rng(0)
    windows = [random_resized_window((120, 160), generator, scale=(0.25, 0.5), ratio=(0.8, 1.25)) for _ in range(200)]
    for window in windows:
        assert 0.24 < window.height * window.width / (120 * 160) < 0.51  # sides are whole pixels
        assert 0.78 < window.width / window.height < 1.28
        assert 0 <= window.top <= 120 - window.height
        assert 0 <= window.left <= 160 - window.width
    assert len(set(windows)) > 190


def test_ratios_are_evenly_spread_in_their_logarithm_and_areas_as_they_are():
    """From 1/4 to 1: a quarter each below 1/sqrt(8), 1/2 and 1/sqrt(2); half of the areas are below 0.15."""
    generator = np.random.default_rng(0)
    windows = [random_resized_window((400, 400), generator, (0.1, 0.2), (0.25, 1.0)) for _ in range(1000)]
    ratios = np.array([window.width / window.height for window in windows])
    areas = np.array([window.height * window.width for window in windows]) / 400**2
    assert np.quantile(ratios, [0.25, 0.5, 0.75]) == pytest.approx([2**-1.5, 0.5, 2**-0.5], rel=0.08)
    assert np.quantile(areas, [0, 0.5, 1]) == pytest.approx([0.1, 0.15, 0.2], abs=0.008)


@pytest.mark.parametrize(("frame", "corner", "size"), [((4, 200), (0, 96), (4, 8)), ((200, 4), (94, 0), (12, 4))])
def test_where_no_window_fits_the_nearest_ratio_is_taken(frame, corner, size):
    """All of the area cannot have a ratio from 1/3 to 2: the widest, or the narrowest, in the middle."""
    found = random_resized_window(frame, np.random.default_rng(0), (1, 1), (1 / 3, 2))
    assert found == (*frame, *corner, *size, False)


def test_a_random_resized_window_of_an_impossible_ratio_is_in_the_middle():
    assert random_resized_window((4, 200), np.random.default_rng(0), (1, 1), (1, 1)) == (4, 200, 0, 98, 4, 4, False)


def test_sides_of_a_random_resized_window_are_rounded():
    """31.36 of 100 pixels: 5.6 x 5.6; and with the ratio 9 / 4, 8.4 wide and 3.73 high."""
    generator = np.random.default_rng(0)
    for ratio, (height, width) in ((1, (6, 6)), (9 / 4, (4, 8))):
        window = random_resized_window((10, 10), generator, (0.3136, 0.3136), (ratio, ratio))
        assert (window.height, window.width) == (height, width)


def test_three_crops_of_a_square_are_side_by_side():
    assert [(crop.top, crop.left) for crop in crop_windows((11, 11), 6, 3)] == [(2, 0), (2, 2), (2, 5)]
