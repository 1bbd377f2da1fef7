"""Moments and frames of a video of five frames, shown from 0, 1, 2, 6 and 8 s until 10 s."""

import numpy as np
import pytest

from datamodules.sampling.frame_times import FrameTimes, time_span

TIMES = np.array([0.0, 1.0, 2.0, 6.0, 8.0])
VIDEO = FrameTimes(TIMES, 5, 0.5)


def test_frames_last_until_the_next_one_and_the_last_one_as_long_as_the_mean():
    assert (VIDEO.end, VIDEO.mean_frame_s) == (10, 2)
    assert FrameTimes(np.array([0.0, 9.0]), 2, 1.0).end == pytest.approx(9.001, abs=1e-5)  # the last one is seen


def test_the_frame_at_a_moment_is_the_one_shown_then_and_starts_are_rounded_to_a_millisecond():
    moments = np.array([-1, 0, 0.99, 0.9995, 1, 5.9, 6, 10, 99])
    assert VIDEO.frames_at(moments).tolist() == [0, 0, 0, 1, 1, 2, 3, 4, 4]


def test_positions_grow_linearly_within_a_frame():
    assert VIDEO.fractional_positions(np.array([0.5, 3.0, 9.0, 10.0])).tolist() == [0.5, 2.25, 4.5, 5]


def test_moments_after_the_end_begin_again():
    assert VIDEO.wrap(np.array([0, 9.5, 10, 12, 31])) == pytest.approx([0, 9.5, 0, 2, 1], abs=1e-8)


def test_a_clip_fits_if_its_last_frame_is_before_the_end():
    assert VIDEO.fits(np.array([5.9, 6.0, 6.1]), 4.0).tolist() == [True, False, False]
    assert VIDEO.start_times(np.array([2, 4])).tolist() == [2, 8]


@pytest.mark.parametrize(
    ("first", "last", "times", "expected"),
    [(2, 4, None, (4, 10)), (0, 0, None, (0, 2)), (1, 2, TIMES, (1, 6)), (2, 4, TIMES, (2, 10)), (3, 3, TIMES, (6, 8))],
)
def test_a_span_is_from_the_start_of_its_first_frame_to_the_end_of_its_last(first, last, times, expected):
    assert time_span(first, last, 0.5, times) == expected
