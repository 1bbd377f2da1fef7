"""Intervals: by hand where they can be, by coverage where they cannot, and against the formulas."""

import numpy as np
import pytest
from scipy.stats import binom

from pipeline.metrics.confidence_intervals import (
    PredictionCorrectness,
    accuracy_intervals,
    difference_intervals,
    mcnemar,
    number_groups,
    wilson_interval,
)


def outcomes(right, groups=None, labels=None, num_classes=2, top5=None):
    right = np.asarray(right, dtype=bool)
    groups = np.arange(len(right)) if groups is None else np.asarray(groups)
    labels = np.zeros(len(right), np.int64) if labels is None else np.asarray(labels)
    top5 = np.ones(len(right), bool) if top5 is None else top5
    return PredictionCorrectness(labels, right, top5, groups, num_classes)


def test_the_bootstrap_of_single_videos_is_the_binomial_distribution():
    right = np.arange(200) < 150
    low, high = accuracy_intervals(outcomes(right), draws=20_000)["top1"]
    assert low == pytest.approx(binom.ppf(0.025, 200, 0.75) / 200, abs=0.006)
    assert high == pytest.approx(binom.ppf(0.975, 200, 0.75) / 200, abs=0.006)


def test_videos_of_one_source_count_as_one():
    """40 groups of 5 videos that are all right or all wrong tell as much as 40 videos."""
    right = np.arange(40) < 30
    alone = accuracy_intervals(outcomes(right), draws=4000)["top1"]
    together = accuracy_intervals(outcomes(right.repeat(5), np.arange(40).repeat(5)), draws=4000)["top1"]
    assert together == pytest.approx(alone, abs=1e-9)
    wide = accuracy_intervals(outcomes(right.repeat(5)), draws=4000)["top1"]
    assert wide[1] - wide[0] < 0.6 * (together[1] - together[0])


def test_a_sample_is_divided_by_the_videos_that_it_holds():
    """A group of 1 right video and one of 9 wrong ones: samples hold the one, the other or both."""
    uneven = outcomes([True] + [False] * 9, [0] + [1] * 9, top5=np.arange(10) < 1)
    found = accuracy_intervals(uneven, draws=400)
    assert found["top1"] == found["top5"] == found["mean_class_accuracy"] == [0.0, 1.0]


def test_mean_class_accuracy_of_each_sample_leaves_out_classes_that_it_lacks():
    """Two groups, one a class: samples hold class 0 alone (1.0), class 1 alone (0.0) or both (0.5)."""
    two = outcomes([True, False], [0, 1], [0, 1])
    assert accuracy_intervals(two, draws=400)["mean_class_accuracy"] == [0.0, 1.0]
    even = outcomes([True, False] * 30, np.arange(60) // 2, [0, 1] * 30)  # each group has both: always a half
    assert accuracy_intervals(even, draws=400)["mean_class_accuracy"] == [0.5, 0.5]


def test_the_same_seed_gives_the_same_intervals_and_another_others():
    some = outcomes(np.random.default_rng(0).random(60) < 0.6, np.arange(60) // 4)
    assert accuracy_intervals(some, 1, 50) == accuracy_intervals(some, 1, 50)
    assert accuracy_intervals(some, 1, 50) != accuracy_intervals(some, 2, 50)


def test_where_samples_say_nothing_the_interval_is_exact_or_none():
    low, high = accuracy_intervals(outcomes([True] * 20))["top1"]
    assert high == 1
    assert low == pytest.approx(0.025 ** (1 / 20))
    low, high = accuracy_intervals(outcomes([False] * 20))["top1"]
    assert (low, high) == (0, pytest.approx(1 - 0.025 ** (1 / 20)))
    low, _ = accuracy_intervals(outcomes([True] * 20, np.arange(20) // 4))["top1"]
    assert low == pytest.approx(0.025 ** (1 / 5))  # of 5 groups
    assert accuracy_intervals(outcomes([True, False], [0, 0]))["top1"] is None
    low, high = accuracy_intervals(outcomes([True, False] * 10), draws=100)["top5"]  # all are among the best five
    assert (low, high) == (pytest.approx(0.025 ** (1 / 20)), 1)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """200 times 30 groups of 3 videos that share their group's luck; the true accuracy is 0.7."""
    generator = np.random.default_rng(5)
    held = 0
    for number in range(200):
        share = generator.beta(7, 3, 30).repeat(3)
        low, high = accuracy_intervals(
            outcomes(generator.random(90) < share, np.arange(30).repeat(3)), number, draws=300
        )["top1"]
        held += low <= 0.7 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_differences_are_of_the_same_samples():
    """Two results that differ in one video of each group: every sample has the same difference."""
    groups = np.arange(20).repeat(2)
    first, second = outcomes([True, False] * 20, groups), outcomes([True, True] * 20, groups)
    assert difference_intervals(first, second)["top1"] == [0.5, 0.5]
    with pytest.raises(ValueError, match="not of the same videos"):
        difference_intervals(first, outcomes([True] * 40))


def test_mcnemar_against_the_binomial_sum():
    assert mcnemar(0, 0) == 1
    assert mcnemar(1, 9) == pytest.approx(2 * (1 + 10) / 2**10)
    assert mcnemar(9, 1) == mcnemar(1, 9)
    assert mcnemar(5, 5) == 1


def test_wilson_against_its_formula():
    low, high = wilson_interval(8, 10)
    z, p, n = 1.959964, 0.8, 10
    middle, half = (p + z**2 / (2 * n)), z * (p * (1 - p) / n + z**2 / (4 * n**2)) ** 0.5
    assert (low, high) == pytest.approx(((middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)), abs=1e-6)
    assert wilson_interval(0, 0) is None


def test_a_video_without_a_group_is_its_own():
    numbers = number_groups(["a", "", "a", ""], ["v1", "v2", "v3", "a"])
    assert numbers[0] == numbers[2]
    assert len(set(numbers.tolist())) == 3
