"""Which part of a frame a clip shows, on numbers that can be checked by hand."""

import numpy as np
import pytest

from datamodules.sampling.crop_windows import center_window, random_resized_window, random_window


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


def test_a_random_resized_window_of_an_impossible_ratio_is_in_the_middle():
    assert random_resized_window((4, 200), np.random.default_rng(0), (1, 1), (1, 1)) == (4, 200, 0, 98, 4, 4, False)
