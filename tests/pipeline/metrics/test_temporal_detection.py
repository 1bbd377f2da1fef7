"""Mean average precision of detections in time: by hand, and by an independent reading of ActivityNet's definition."""

import numpy as np
import pytest

from pipeline.metrics.temporal_detection import (
    TimedSegments,
    detection_report,
    frame_average_precision,
    frame_labels,
    frame_moments,
    rank_hits,
    temporal_iou,
)

RIGHT = (0, 0, 10.0, 20.0, 0.0)  # video, class, start, end


def report(truth, detections, thresholds=(0.5,), classes=("a",), videos=1, **more):
    groups = np.arange(videos)
    made = TimedSegments.from_rows(truth), TimedSegments.from_rows(detections)
    return detection_report(*made, classes, groups, thresholds, draws=more.pop("draws", 100), **more)


def average_precision(truth, detections, threshold=0.5, **more):
    return report(truth, detections, (threshold,), **more)["mean_average_precision"]


def test_overlap():
    first, others = np.array([[0.0, 10.0]]), np.array([[5.0, 15.0], [10.0, 20.0], [2.0, 4.0], [0.0, 10.0]])
    np.testing.assert_allclose(temporal_iou(first, others), [[5 / 15, 0, 0.2, 1]])
    assert temporal_iou(np.array([[3.0, 3.0]]), np.array([[3.0, 3.0]])) == 0


@pytest.mark.parametrize(
    ("detections", "expected"),
    [
        ([], 0),
        ([(0, 0, 10, 20, 0.9)], 1),
        ([(0, 0, 15, 20, 0.9)], 1),  # a tIoU of exactly 0.5 is enough
        ([(0, 0, 15.1, 20, 0.9)], 0),
        ([(0, 0, 40, 50, 0.9), (0, 0, 10, 20, 0.8)], 0.5),  # a wrong one before the right one
        ([(0, 0, 10, 20, 0.9), (0, 0, 40, 50, 0.8)], 1),  # behind it costs nothing
        ([(0, 0, 12, 20, 0.9), (0, 0, 10, 20, 0.8)], 1),  # the second finds it taken, and is wrong
        ([(0, 1, 10, 20, 0.9)], 0),  # another class
        ([(1, 0, 10, 20, 0.9)], 0),  # another video
    ],
)
def test_one_segment(detections, expected):
    assert average_precision([RIGHT], detections, classes=("a", "b"), videos=2) == pytest.approx(expected)


def test_two_segments_share_no_detection_and_precision_is_interpolated():
    """Right, wrong, right of two: precisions 1 and 2/3 at recalls 1/2 and 1; wrong, right, right: 2/3 for both."""
    truth = [(0, 0, 0, 10, 0), (0, 0, 20, 30, 0)]
    hits = [(0, 0, 0, 10), (0, 0, 50, 60), (0, 0, 20, 30)]
    assert average_precision(truth, [(*each, 0.9 - number / 10) for number, each in enumerate(hits)]) == pytest.approx(
        0.5 * 1 + 0.5 * 2 / 3
    )
    late = [hits[1], hits[0], hits[2]]
    assert average_precision(truth, [(*each, 0.9 - number / 10) for number, each in enumerate(late)]) == pytest.approx(
        2 / 3
    )
    between = [(0, 0, 0, 30, 0.9)]  # overlaps both by a third
    assert average_precision(truth, between, 0.3) == pytest.approx(0.5)


def test_a_detection_takes_what_it_overlaps_most_of_what_is_left():
    truth = TimedSegments.from_rows([(0, 0, 0, 10, 0), (0, 0, 4, 14, 0)])
    both = [(0, 0, 3, 13, 0.9), (0, 0, 4, 14, 0.8)]  # the first is nearer to the second segment, which the other wants
    assert rank_hits(truth, TimedSegments.from_rows(both), 0.5).hits.tolist() == [True, False]
    assert rank_hits(truth, TimedSegments.from_rows(both), 0.4).hits.tolist() == [True, True]


def test_classes_without_segments_do_not_count_and_tious_are_averaged():
    found = report([RIGHT], [(0, 0, 13, 20, 0.9), (0, 1, 0, 5, 0.9)], (0.5, 0.7, 0.9), classes=("a", "b"))
    assert [each["mean_average_precision"] for each in found["by_tiou"].values()] == [1, 1, 0]
    assert found["mean_average_precision"] == pytest.approx(2 / 3)
    assert found["per_class"][1] == {"name": "b", "segments": 0, "detections": 1, "average_precision": None}
    assert found["interval"] is None  # one video
    with pytest.raises(ValueError, match="no video has a labelled segment"):
        report([], [(0, 0, 13, 20, 0.9)])


def reading_of_activitynet(truth, detections, threshold):
    """Average precision of one class as the challenge words it, one detection at a time, areas under a staircase."""
    taken, precisions, recalls, right = set(), [], [], 0
    for seen, (video, _, start, end, _) in enumerate(sorted(detections, key=lambda each: -each[4]), 1):
        candidates = []
        for number, (other, _, first, last, _) in enumerate(truth):
            both = min(end, last) - max(start, first)
            overlap = max(0, both) / (max(end, last) - min(start, first)) if both > 0 else 0
            if other == video and number not in taken and overlap >= threshold:
                candidates.append((overlap, number))
        if candidates:
            taken.add(max(candidates)[1])
            right += 1
        precisions.append(right / seen)
        recalls.append(right / len(truth))
    area, before = 0.0, 0.0
    for place, recall in enumerate(recalls):
        area += (recall - before) * max(precisions[place:])
        before = recall
    return area


def test_random_cases_agree_with_an_independent_reading():
    rng = np.random.default_rng(0)
    for _ in range(60):

        def segments(count, scored, rng=rng):
            starts, lengths = rng.uniform(0, 60, count), rng.uniform(2, 20, count)
            scores = rng.permutation(count) / 100 if scored else np.zeros(count)
            videos = rng.integers(0, 3, count)
            return [(int(v), 0, s, s + n, c) for v, s, n, c in zip(videos, starts, lengths, scores, strict=True)]

        truth, found = segments(int(rng.integers(1, 12)), False), segments(int(rng.integers(0, 25)), True)
        for threshold in (0.1, 0.3, 0.5, 0.7):
            expected = reading_of_activitynet(truth, found, threshold)
            assert average_precision(truth, found, threshold, videos=3, draws=2) == pytest.approx(expected)


def test_intervals_are_of_videos_and_repeat():
    """A video twice in a sample counts twice: half of the videos found by a sure detection, half not found at all."""
    truth = [(number, 0, 10, 20, 0) for number in range(40)]
    found = [(number, 0, 10, 20, 0.5) for number in range(20)]
    first, again = (report(truth, found, videos=40, seed=3, draws=2000) for _ in range(2))
    assert first == again
    low, high = first["interval"]
    assert (low, high) == pytest.approx((0.35, 0.65), abs=0.03)  # of a binomial of 40 trials
    assert first["mean_average_precision"] == 0.5


def test_frames_of_charades():
    """25 moments from the beginning, the last before the end; both ends of a segment belong to it."""
    moments = frame_moments(50.0)
    assert (len(moments), moments[0], moments[1], moments[-1]) == (25, 0, 2, 48)
    labels = frame_labels(moments, [(0, 4.0, 10.0), (1, 47.0, 60.0), (0, 9.0, 12.0)], 3)
    assert labels.sum(axis=0).tolist() == [5, 1, 0]
    assert labels[2:7, 0].all()
    scores = np.zeros((25, 3))
    scores[2:6, 0], scores[10, 0], scores[:, 1] = 1.0, 2.0, np.arange(25)
    found = frame_average_precision(scores, labels)
    assert found["per_class"] == [pytest.approx((4 * 4 / 5 + 5 / 25) / 5), 1.0, None]
    assert found["mean_average_precision"] == pytest.approx((0.68 + 1) / 2)
