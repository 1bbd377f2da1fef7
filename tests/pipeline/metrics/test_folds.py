"""Folds pooled, by hand; mean and spread of real runs: test_all_folds.py and test_evaluate.py."""

import numpy as np
import pytest

from pipeline.metrics.folds import pool_folds, summarize_folds
from pipeline.metrics.scored_videos import ScoredVideos


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
