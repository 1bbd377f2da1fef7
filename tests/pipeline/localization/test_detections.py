"""Detections from the scores of seconds: smoothing, stretches, thresholds, non-maximum suppression."""

import numpy as np
import pytest

from pipeline.classify.timeline import segments
from pipeline.localization.detections import (
    best_class_detections,
    smooth_seconds,
    suppress_overlaps,
    threshold_detections,
)

SECONDS = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4], [0.55, 0.45]], np.float32)


def test_the_best_class_gives_what_classify_prints():
    found = best_class_detections(SECONDS, 4.6)
    assert found == [(0, 0, 2, 0.85), (1, 2, 3, 0.7), (0, 3, 4.6, 0.575)]
    printed = [
        (each["class"], each["start"], each["end"], each["probability"]) for each in segments(SECONDS, 4.6, "ab")
    ]
    assert [("ab"[number], *rest) for number, *rest in found] == printed


def test_smoothing_averages_what_there_is():
    smooth = smooth_seconds(SECONDS, 3)
    np.testing.assert_allclose(smooth[:, 0], [0.85, 2 / 3, 1.7 / 3, 1.45 / 3, 0.575], rtol=1e-5)
    assert smooth.dtype == np.float32
    assert smooth_seconds(SECONDS, 1) is SECONDS
    np.testing.assert_allclose(smooth_seconds(SECONDS, 99), np.tile(SECONDS.mean(axis=0), (5, 1)), rtol=1e-5)


def test_thresholds_find_wholes_and_parts():
    found = threshold_detections(SECONDS, 5.0, [0.5, 0.75], max_overlap=1.0)
    assert sorted(each[:3] for each in found) == [(0, 0, 2), (0, 3, 5), (1, 2, 3)]
    low = threshold_detections(SECONDS, 5.0, [0.25, 0.75], max_overlap=1.0)
    assert sorted(each[:3] for each in low if each[0] == 0) == [(0, 0, 2), (0, 0, 5)]
    assert [each[:3] for each in threshold_detections(SECONDS, 5.0, [0.25, 0.75], 0.3) if each[0] == 0] == [(0, 0, 2)]


def test_suppression_keeps_the_surest():
    detections = [(0, 0, 10, 0.5), (0, 1, 10, 0.9), (0, 8, 20, 0.7), (0, 9, 20, 0.6)]
    assert suppress_overlaps(detections, 0.5) == [(0, 1, 10, 0.9), (0, 8, 20, 0.7)]
    assert suppress_overlaps(detections, 0.05) == [(0, 1, 10, 0.9)]
    assert len(suppress_overlaps(detections, 1.0)) == 4
    assert suppress_overlaps([], 0.5) == []


@pytest.mark.parametrize("length", [1, 2])
def test_short_videos(length):
    found = best_class_detections(SECONDS[:length], length - 0.5)
    assert found == [(0, 0, length - 0.5, pytest.approx(float(SECONDS[:length, 0].mean())))]
