"""Confusion, calibration and the table of classes, by hand."""

import csv

import numpy as np
import pytest

from pipeline.metrics.calibration import calibrate
from pipeline.metrics.confidence_intervals import wilson_interval
from pipeline.metrics.confusion import confusion_matrix, hardest_classes, hardest_pairs
from pipeline.metrics.per_class import class_rows, write_class_rows

LABELS = np.array([0, 0, 0, 1, 1, 2, 2])
ANSWERS = np.array([0, 1, 1, 1, 0, 2, -1])  # the last one has none


def test_the_matrix_and_its_pairs():
    matrix = confusion_matrix(LABELS, ANSWERS, 3)
    assert matrix.tolist() == [[1, 2, 0], [1, 1, 0], [0, 0, 1]]
    [pair] = hardest_pairs(matrix, ["a", "b", "c"], 5)
    assert pair == {
        "first": "a",
        "second": "b",
        "first_as_second": 2,
        "second_as_first": 1,
        "first_videos": 3,
        "second_videos": 2,
    }
    assert hardest_pairs(matrix.T.copy(), ["a", "b", "c"], 5)[0]["first"] == "b"
    assert hardest_pairs(np.array([[0, 2], [2, 0]]), ["a", "b"], 5)[0]["first"] == "a"  # as often the one as the other


def test_the_hardest_part_keeps_confused_classes_side_by_side():
    matrix = np.diag(np.full(10, 50))
    matrix[1, 8], matrix[8, 1], matrix[4, 6], matrix[2, 3] = 9, 3, 7, 1
    assert hardest_classes(matrix, 4).tolist() == [1, 8, 4, 6]
    assert hardest_classes(matrix, 10).tolist() == list(range(10))


def test_pairs_that_are_confused_equally_often_stay_in_the_order_of_the_labels():
    """Of 40 classes every third is mistaken for each other one three times, the others once."""
    matrix = np.ones((40, 40), np.int64)
    matrix[::3] = 3
    found = hardest_pairs(matrix, [str(number) for number in range(40)], 3)
    assert [(pair["first"], pair["second"]) for pair in found] == [("0", "3"), ("0", "6"), ("0", "9")]
    assert hardest_classes(matrix, 4).tolist() == [0, 3, 6, 9]


def test_calibration_by_hand():
    """Two bins: (0, 0.5] with 0.4 and 0.5, both wrong; (0.5, 1] with 0.9 right, 0.8 wrong, 1.0 right."""
    told = calibrate(np.array([0.4, 0.5, 0.9, 0.8, 1.0]), np.array([False, False, True, False, True]), 2)
    assert [of["videos"] for of in told["bins"]] == [2, 3]
    assert told["bins"][0]["confidence"] == pytest.approx(0.45)
    assert told["bins"][1]["accuracy"] == pytest.approx(2 / 3)
    assert told["ece"] == pytest.approx((2 * 0.45 + 3 * (0.9 - 2 / 3)) / 5)
    empty = calibrate(np.array([1.0]), np.array([True]), 4)["bins"][0]
    assert empty["accuracy"] is empty["confidence"] is None


def test_calibration_errors_of_both_signs_add_up_in_15_bins():
    """Too sure by 0.3, and by 0.4 not sure enough: the mean gap is 0.35, though they nearly cancel."""
    told = calibrate(np.array([0.3, 0.6]), np.array([False, True]))
    assert told["ece"] == pytest.approx(0.35)
    assert told["mean_confidence"] == pytest.approx(0.45)
    assert len(told["bins"]) == 15
    assert [(round(of["low"] * 15), round(of["high"] * 15)) for of in told["bins"] if of["videos"]] == [(4, 5), (8, 9)]


def test_the_table_of_classes(tmp_path):
    matrix = confusion_matrix(LABELS, ANSWERS, 4)
    rows = class_rows(matrix, np.bincount(LABELS, minlength=4), ["a", "b", "c, d", "e"])
    assert np.array_equal(matrix, confusion_matrix(LABELS, ANSWERS, 4))  # it is shown afterwards
    assert [(row.videos, row.correct, row.taken_for, row.taken_for_videos) for row in rows] == [
        (3, 1, "b", 2),
        (2, 1, "a", 1),
        (2, 1, "", 0),
        (0, 0, "", 0),
    ]
    assert rows[1].precision == pytest.approx(1 / 3)
    assert [(row.low, row.high) for row in rows[:3]] == [
        tuple(wilson_interval(right, of)) for right, of in ((1, 3), (1, 2), (1, 2))
    ]
    assert rows[2].accuracy == 0.5  # the video without an answer counts
    assert rows[3].accuracy is rows[3].low is rows[3].precision is None
    write_class_rows(tmp_path / "per_class.csv", rows)
    with (tmp_path / "per_class.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [row["class"] for row in read] == ["a", "b", "c, d", "e"]
    assert (read[0]["accuracy"], read[3]["accuracy"]) == ("0.333333", "")
