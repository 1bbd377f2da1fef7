"""Which clip labels which frame, and means over seconds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.classify.frame_timeline import SecondMeans, cover_frames


def test_by_hand():
    windows = cover_frames(6, 4, is_causal=True)
    assert windows.places.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5]]
    assert windows.bounds.tolist() == [0, 4, 6]
    assert cover_frames(6, 4, is_causal=False).bounds.tolist() == [0, 3, 6]
    assert windows.of_clip(1) == (slice(4, 6), slice(2, 4))
    assert cover_frames(2, 4, is_causal=True).places.tolist() == [[0, 1, 1, 1]]


@given(st.integers(1, 200), st.integers(1, 40), st.booleans())
def test_every_frame_is_labelled_once_by_a_clip_that_has_it(count: int, num_frames: int, is_causal: bool):
    windows = cover_frames(count, num_frames, is_causal)
    labelled = []
    for number, places in enumerate(windows.places):
        frames, inside = windows.of_clip(number)
        assert places[inside].tolist() == list(range(frames.start, frames.stop))
        labelled += places[inside].tolist()
        if is_causal and number:
            assert inside.start >= num_frames // 2  # frames read before it
    assert labelled == list(range(count))


def test_a_second_is_the_mean_of_its_frames_and_an_empty_one_repeats_the_last():
    means = SecondMeans(np.array([0, 0, 2]), 4)
    means.add(slice(0, 2), np.array([[0.0, 1.0], [0.5, 0.5]], np.float32))
    means.add(slice(2, 3), np.array([[1.0, 0.0]], np.float32))
    assert means.means().tolist() == [pytest.approx(row) for row in ([0.25, 0.75], [0.25, 0.75], [1, 0], [1, 0])]
