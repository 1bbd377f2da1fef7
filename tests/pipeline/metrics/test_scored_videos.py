"""Right and wrong of single videos, by hand, with one that could not be decoded."""

import numpy as np

from pipeline.metrics.accuracy import accuracy_report
from pipeline.metrics.scored_videos import ScoredVideos, align, compute_correctness, predicted_classes

SCORES = np.array([[9, 8, 7, 6, 5, 4], [5, 9, 8, 7, 6, 4], [4, 9, 8, 7, 6, 5], [np.nan] * 6])
LABELS = np.array([0, 0, 0, 0])


def test_the_best_and_the_five_best_are_right_and_what_was_not_decoded_is_wrong():
    """The label comes first, fifth and sixth; the last video has no scores, and would else come first."""
    videos = ScoredVideos(SCORES, LABELS, list("abcdef"), ["v", "w", "x", "y"], ["g", "", "g", ""], {})
    found = compute_correctness(videos)
    assert found.top1.tolist() == [True, False, False, False]
    assert found.top5.tolist() == [True, True, False, False]
    assert found.groups[0] == found.groups[2]
    assert (found.num_groups, found.num_classes) == (3, 6)
    assert predicted_classes(videos).tolist() == [0, 1, 1, -1]
    report = accuracy_report(SCORES, LABELS, list("abcdef"), videos.missing)
    assert (report["top1"], report["top5"]) == (0.25, 0.5)


def test_results_are_aligned_in_the_order_of_the_first_with_the_groups_of_the_first_that_has_any():
    """Scores that say whose they are: of v, w and x, of which the second has an own order and the groups."""
    about = {"scores": "logit"}
    first = ScoredVideos(
        np.array([[1, 0], [2, 0], [3, 0]]), np.array([0, 1, 0]), ["a", "b"], ["v", "w", "x"], [""] * 3, about
    )
    second = ScoredVideos(
        np.array([[30, 0], [10, 0], [20, 0]]),
        np.array([0, 0, 1]),
        ["a", "b"],
        ["x", "v", "w"],
        ["gx", "gv", "gw"],
        about,
    )
    for one, scores in zip(align([first, second], ["1", "2"]), ([1, 2, 3], [10, 20, 30]), strict=True):
        assert one.keys == ["v", "w", "x"]
        assert one.groups == ["gv", "gw", "gx"]
        assert (one.scores[:, 0].tolist(), one.labels.tolist()) == (scores, [0, 1, 0])


def test_of_three_classes_too_a_video_without_scores_is_wrong():
    scores, missing = np.array([[0.5, 0.3, 0.2], [np.nan] * 3]), np.array([False, True])
    report = accuracy_report(scores, np.array([1, 2]), ["a", "b", "c"], missing)
    assert (report["top1"], report["top5"], report["mean_class_accuracy"]) == (0, 0.5, 0)


def test_a_video_with_some_scores_is_not_without_scores():
    """One class of a diverged network: that is to be refused, and not to be counted as a video without scores."""
    scores = np.array([[0.5, np.nan], [np.nan, np.nan], [0.5, 0.5]])
    videos = ScoredVideos(scores, np.zeros(3), ["a", "b"], ["v", "w", "x"], [""] * 3, {})
    assert videos.missing.tolist() == [False, True, False]
