"""Accuracies from scores, by hand and against the metrics of training and scikit-learn."""

import json

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score

from lightning_modules.tasks.metrics import classification_metrics
from pipeline.metrics.accuracy import accuracy_report, print_report, write_report


def test_numbers_checked_by_hand():
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.5, 0.4, 0.1]])
    report = accuracy_report(scores, np.array([0, 0, 0, 1]), ["a", "b", "c"])
    assert report["top1"] == 0.5
    assert report["top5"] == 1.0
    assert report["mean_class_accuracy"] == pytest.approx((2 / 3 + 0) / 2)
    assert report["num_videos"] == 4
    assert report["chance"] == pytest.approx(1 / 3)
    assert report["per_class"] == {
        "a": {"videos": 3, "correct": 2, "accuracy": pytest.approx(2 / 3)},
        "b": {"videos": 1, "correct": 0, "accuracy": 0.0},
        "c": {"videos": 0, "correct": 0, "accuracy": None},
    }


def test_agrees_with_the_metrics_of_training_and_with_sklearn():
    generator = np.random.default_rng(0)
    scores = generator.dirichlet(np.ones(9), 200).astype(np.float32)
    labels = generator.integers(0, 9, 200)
    report = accuracy_report(scores, labels, [str(number) for number in range(9)])
    metrics = classification_metrics(9, "test")
    metrics.update(torch.from_numpy(scores), torch.from_numpy(labels))
    for name, value in metrics.compute().items():
        assert report[name.removeprefix("test/")] == pytest.approx(float(value), abs=1e-6)
    assert report["top5"] == pytest.approx(top_k_accuracy_score(labels, scores, k=5))
    assert report["mean_class_accuracy"] == pytest.approx(balanced_accuracy_score(labels, scores.argmax(1)))


def test_among_equal_scores_the_first_class_wins():
    report = accuracy_report(np.zeros((2, 7)), np.array([0, 5]), list("abcdefg"))
    assert (report["top1"], report["top5"]) == (0.5, 0.5)


def test_scores_that_are_not_finite_are_refused():
    scores = np.array([[0.5, 0.5], [np.nan, 0.1]])
    with pytest.raises(ValueError, match="scores of 1 of 2 videos are not finite"):
        accuracy_report(scores, np.array([0, 1]), ["a", "b"])
    with pytest.raises(ValueError, match="M > 0"):
        accuracy_report(np.empty((0, 2)), np.empty(0, int), ["a", "b"])


def test_a_report_is_written_and_printed(tmp_path, capsys):
    report = accuracy_report(np.array([[0.9, 0.1]]), np.array([0]), ["gehen", "läuft"])
    write_report(tmp_path / "report.json", report)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == report
    print_report("a title", report, {"views": "3"}, [tmp_path / "report.json"])
    printed = capsys.readouterr().out
    assert "100.0%" in printed
    assert f"wrote {tmp_path / 'report.json'}" in printed
