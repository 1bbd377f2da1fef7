"""Folds pooled, by hand; mean and spread of real runs: test_all_folds.py and test_evaluate.py."""

import numpy as np
import pytest

from pipeline.metrics.folds import fold_summary_sentence, pool_folds, print_folds, summarize_folds
from pipeline.metrics.scored_videos import ScoredVideos, align
from tests.pipeline.metrics.made_results import made


def fold(keys, right, **provenance):
    scores = np.array([[0.9, 0.1] if one else [0.1, 0.9] for one in right])
    labels, about = np.zeros(len(keys), int), {"overlap": None, "split": "test"} | provenance
    return ScoredVideos(scores, labels, ["a", "b"], keys, [""] * len(keys), about)


def test_mean_spread_and_pool():
    overlap = {"videos": 1, "content": 0, "groups": 1, "of": 2}
    folds = {
        "0": fold(["v", "w"], [True, False], checkpoint_sha256="s0", fold="0", overlap=overlap, C=1.0),
        "1": fold(["x"], [True], checkpoint_sha256="s1", fold="1", C=1.0),
    }
    summary = summarize_folds(folds)
    assert (summary["top1_mean"], summary["top1_std"]) == (0.75, pytest.approx(np.std([0.5, 1], ddof=1)))
    assert (summary["folds"]["0"]["num_videos"], summary["chance"]) == (2, 0.5)
    pooled = pool_folds(folds)
    assert pooled.keys == ["v", "w", "x"]
    assert pooled.provenance == {
        "split": "test",
        "C": 1.0,
        "checkpoints_sha256": {"0": "s0", "1": "s1"},
        "overlap": {"videos": 1, "content": 0, "groups": 1, "of": 3},
    }
    assert pool_folds({"0": folds["0"], "1": folds["0"]}) is None
    seen = {name: one._replace(provenance=one.provenance | {"seen_by_network": 3}) for name, one in folds.items()}
    assert pool_folds(seen).provenance["seen_by_network"] == 6


def test_a_video_without_scores_is_wrong_in_its_fold():
    one = fold(["v", "w", "x", "y"], [True] * 4)
    one.scores[3] = np.nan
    assert summarize_folds({"0": one})["top1_mean"] == 0.75


def several(seed):
    one = made(3, 20, seed)
    labels = np.random.default_rng(seed).random((20, 3)) < 0.4
    about = dict(one.provenance) | {"task": "multi_label"}
    return one._replace(labels=labels.astype(np.uint8), keys=[f"{seed} {key}" for key in one.keys], provenance=about)


def test_folds_of_several_labels_are_summed_up_by_mean_average_precision(capsys):
    folds = {"a": several(1), "b": several(2)}
    summary = summarize_folds(folds)
    values = [summary["folds"][fold]["mean_average_precision"] for fold in folds]
    assert summary["mean_average_precision_mean"] == pytest.approx(np.mean(values))
    assert summary["mean_average_precision_std"] == pytest.approx(np.std(values, ddof=1))
    assert "top1_mean" not in summary
    assert "mAP" in fold_summary_sentence(summary)
    print_folds("folds", summary)
    printed = capsys.readouterr().out
    assert "top-1 hit" in printed
    rows = {line.replace("│", " ").split()[0]: line for line in printed.splitlines() if "%" in line}
    for row, statistic, sign in (("mean", "mean", ""), ("spread", "std", "± ")):
        for name in ("mean_average_precision", "top1_hit"):
            assert f"{sign}{summary[f'{name}_{statistic}']:.1%}" in rows[row]
    pooled = pool_folds(folds)
    assert pooled.task == "multi_label"
    assert pooled.labels.shape == (40, 3)


def test_results_of_one_class_and_of_several_labels_are_not_aligned():
    one, other = made(3, 20, 1), several(1)
    other = other._replace(keys=one.keys)
    with pytest.raises(
        ValueError, match=r"one is of one class a video .*, other of several labels .*: compare and fuse"
    ):
        align([one, other], ["one", "other"])
    assert len(align([other, other], ["a", "b"])) == 2
    changed = other._replace(labels=1 - other.labels)
    with pytest.raises(ValueError, match="20 videos have different labels"):
        align([other, changed], ["a", "b"])
