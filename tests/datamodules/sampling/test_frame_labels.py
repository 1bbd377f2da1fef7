"""Labels of the frames of a clip, by hand."""

import numpy as np
import pytest

from datamodules.sampling.frame_labels import frame_labels, is_padding

TIMELINE = ((1, 0.0, 0.5), (0, 0.5, 1.0))


def label(numbers: list[int], fps: float, video_frames: int, num_classes: int | None = None) -> list:
    chosen = np.array(numbers)
    return frame_labels(chosen, chosen / fps, TIMELINE, video_frames, num_classes).tolist()


def test_a_frame_has_the_label_of_the_part_that_it_begins_in():
    assert label([0, 1, 2, 3], 4.0, 8) == [1, 1, 0, 0]
    assert label([1, 3, 5], 4.0, 8) == [1, 0, -1]  # frame 5 begins at 1.25 s, in no part
    assert label([12, 13], 25.0, 50) == [1, 0]  # 0.48 and 0.52 s


def test_equal_decimal_times_touch_whatever_their_binary_form():
    numbers = np.arange(3)
    assert frame_labels(numbers, numbers / 10, ((1, 0.1 + 0.2 - 0.2, 0.2),), 9).tolist() == [-1, 1, -1]


@pytest.mark.parametrize(("numbers", "fps"), [([0, 1, 2, 3, 0], 4.0), ([0, 1, 2, 3, 3], 4.0)])
def test_frames_that_lengthen_a_short_video_do_not_count(numbers: list[int], fps: float):
    assert label(numbers, fps, 4) == [1, 1, 0, 0, -1]


def test_repeated_frames_of_a_higher_rate_count():
    assert is_padding(np.array([0, 0, 1, 1, 2, 2]), 4).tolist() == [False] * 6


def test_several_labels_a_frame():
    overlapping = ((0, 0.0, 1.0), (2, 0.5, 1.5))
    numbers = np.array([0, 2, 4, 7, 7])
    found = frame_labels(numbers, numbers / 4, overlapping, 8, num_classes=3).tolist()
    assert found == [[1, 0, 0], [1, 0, 1], [0, 0, 1], [0, 0, 0], [-1, -1, -1]]
