"""Mean average precision of results: against scikit-learn for any scores, weighted samples against repeated videos."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from pipeline.metrics.average_precision import average_precision_report, average_precisions, class_rankings
from pipeline.metrics.ranking_samples import (
    RankingSamples,
    _Ranking,
    class_intervals,
    difference_of_samples,
    draw_ranking_samples,
    num_draws,
    ranking_intervals,
)

NAMES = ["a", "b", "c"]
videos = st.lists(
    st.tuples(
        st.lists(st.integers(0, 5), min_size=3, max_size=3),
        st.lists(st.booleans(), min_size=3, max_size=3),
        st.integers(0, 9).map(lambda number: number == 0),  # without scores
    ),
    min_size=1,
    max_size=30,
).filter(lambda rows: any(any(labels) for _, labels, _ in rows))


@given(videos)
def test_a_report_is_what_scikit_learn_says(rows):
    """Classes without a video are left out, videos without scores rank last, those without a class are negatives."""
    scores = np.array([row for row, _, _ in rows]) / 5
    labels, missing = (np.array([row[place] for row in rows]) for place in (1, 2))
    scores[missing] = np.nan
    report = average_precision_report(scores, labels, NAMES, missing)
    filled = np.where(np.isnan(scores), -1, scores)

    def mean(chosen):
        found = [average_precision_score(labels[chosen, k], filled[chosen, k]) for k in range(3) if labels[:, k].any()]
        return pytest.approx(np.mean(found), abs=1e-6)

    labelled = labels.any(axis=1)
    assert report["mean_average_precision"] == mean(np.ones(len(rows), bool))
    assert report["mean_average_precision_labelled"] == mean(labelled)
    assert report["unlabelled"] == (~labelled).sum()
    hits = [not gone and label[score.argmax()] for score, label, gone in zip(filled, labels, missing, strict=True)]
    assert report["top1_hit"] == pytest.approx(np.mean(np.array(hits)[labelled]))
    for name, column in zip(NAMES, labels.T, strict=True):
        assert (report["per_class"][name]["average_precision"] is None) == (not column.any())


def test_chance_is_the_mean_share_of_the_videos_that_show_a_class():
    """Of four videos one shows no class: a is shown by three, c by one, and b, which nobody shows, has no chance."""
    labels = np.array([[1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 0, 0]])
    report = average_precision_report(np.arange(12.0).reshape(4, 3), labels, NAMES)
    assert report["chance"] == pytest.approx((3 / 4 + 1 / 4) / 2)
    rows = class_rankings(report, [[0.25, 0.5], None, None])
    assert [row.prevalence for row in rows] == [0.75, 0.0, 0.25]
    assert [(row.name, row.videos, row.low, row.high) for row in rows[:2]] == [
        ("a", 3, 0.25, 0.5),
        ("b", 0, None, None),
    ]
    assert (rows[0].average_precision, rows[1].average_precision) == (pytest.approx((1 + 2 / 3 + 3 / 4) / 3), None)


def test_what_cannot_be_ranked_is_named():
    scores, labels = np.zeros((2, 3)), np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match="none of the 2 videos shows any of the 3 classes"):
        average_precision_report(scores, labels, NAMES)
    for unlike in (np.zeros((0, 3)), np.zeros((3, 3))):
        with pytest.raises(ValueError, match=r"want \(M, K\), M > 0"):
            average_precision_report(unlike, labels[: len(unlike) // 2], NAMES)
    with pytest.raises(ValueError, match="the scores of 1 of 2 videos are not finite"):
        average_precision_report(np.array([[np.nan, 0, 0], [1, 1, 1]]), labels + 1, NAMES)


@given(videos, st.integers(0, 99))
def test_a_weighted_video_is_a_video_as_often(rows, seed):
    """What is computed for a sample equals the average precision of the videos written down as often as drawn."""
    scores, labels = (np.array([row[place] for row in rows]) for place in (0, 1))
    weights = np.random.default_rng(seed).integers(0, 3, (4, len(rows)))
    found = [_Ranking(scores[:, k].astype(float), labels[:, k]).precisions(weights.astype(float)) for k in range(3)]
    for sample, counts in enumerate(weights):
        repeated = np.repeat(np.arange(len(rows)), counts)
        if len(repeated):
            chosen = scores[repeated], labels[repeated]
            expected = average_precisions(*chosen, np.zeros(len(repeated), bool))
            np.testing.assert_allclose([column[sample] for column in found], expected, atol=1e-12)


def made(seed, sure=1.0):
    generator = np.random.default_rng(0)
    labels = generator.random((120, 3)) < 0.3
    return np.random.default_rng(seed).normal(size=labels.shape) + sure * labels, labels


def test_intervals_hold_the_figure_are_wider_for_groups_and_none_where_nothing_varies():
    scores, labels = made(1)
    none = np.zeros(120, bool)
    alone = draw_ranking_samples(scores, labels, none, np.arange(120))
    report = average_precision_report(scores, labels, NAMES)
    figure = report["mean_average_precision"]
    intervals = ranking_intervals(alone, figure)
    for name in ("mean_average_precision", "top1_hit"):
        assert intervals[name][0] < report[name] < intervals[name][1]
    of_classes = [values["average_precision"] for values in report["per_class"].values()]
    for value, (low, high) in zip(of_classes, class_intervals(alone, of_classes), strict=True):
        assert low < value < high
    copies = np.tile(np.arange(30), 4)  # the same 30 videos four times tell as much as 30 videos
    together = ranking_intervals(draw_ranking_samples(scores[copies], labels[copies], none, copies), figure)
    few = ranking_intervals(draw_ranking_samples(scores[:30], labels[:30], none[:30], np.arange(30)), figure)
    assert together["top1_hit"] == few["top1_hit"]
    assert draw_ranking_samples(scores, labels, none, np.zeros(120, np.int64)) is None
    perfect = draw_ranking_samples(labels.astype(float), labels, none, np.arange(120))
    assert ranking_intervals(perfect, 1.0)["mean_average_precision"] is None


def test_an_interval_is_moved_to_its_figure_and_stays_a_share():
    """41 samples from 0.4 to 0.6: the second one from either end is the limit, 0.405 and 0.595, around 0.5."""
    values = np.linspace(0.4, 0.6, 41)
    samples = RankingSamples(values[:, None], values)
    found = ranking_intervals(samples, 0.7)
    assert found["mean_average_precision"] == pytest.approx([0.605, 0.795])
    assert found["top1_hit"] == pytest.approx([0.405, 0.595])
    for figure, expected in ((0.7, [0.605, 0.795]), (0.95, [0.855, 1.0]), (0.03, [0.0, 0.125])):
        assert class_intervals(samples, [figure])[0] == pytest.approx(expected)


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """The truth is the mean over many results of as many videos; percentiles that are not moved to it lie too high."""

    def result(seed):
        generator = np.random.default_rng(seed)
        labels = generator.random((40, 3)) < 0.25
        return generator.normal(size=labels.shape) + 0.7 * labels, labels

    def figure(scores, labels):
        return average_precision_report(scores, labels, NAMES)["mean_average_precision"]

    truth = np.mean([figure(*result(1000 + seed)) for seed in range(300)])
    held = []
    for seed in range(60):
        scores, labels = result(seed)
        samples = draw_ranking_samples(scores, labels, np.zeros(40, bool), np.arange(40))
        low, high = ranking_intervals(samples, figure(scores, labels))["mean_average_precision"]
        held.append(low <= truth <= high)
    assert 0.87 <= np.mean(held) <= 1


def test_differences_are_paired():
    none, groups = np.zeros(120, bool), np.arange(120)
    (weak, labels), (strong, _) = made(1), made(1, sure=2.0)
    first, second = (draw_ranking_samples(scores, labels, none, groups) for scores in (weak, strong))
    gain = np.subtract(*(average_precisions(scores, labels, none).mean() for scores in (strong, weak)))
    low, high = difference_of_samples(first, second, gain)["mean_average_precision"]
    assert 0 < low < gain < high
    low, high = difference_of_samples(first, second, gain)["top1_hit"]
    assert 0 < low < high  # second minus first
    assert difference_of_samples(first, first, 0.0)["mean_average_precision"] == [0, 0]


def test_large_results_get_fewer_draws():
    assert [num_draws(1863, 157), num_draws(20_000, 400), num_draws(10**6, 10**4)] == [2000, 500, 200]
