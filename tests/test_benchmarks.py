"""Benchmarks run as files, from anywhere, and count as they say."""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.evaluate import Way, naive, ours, prepare
from benchmarks.turns import Spent, ratio

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def test_the_cluster_on_paper_names_what_saturates_first(tmp_path):
    words = ["--nodes", "1", "64", "--cores", "1", "--store", "0.005"]
    run = subprocess.run(
        [sys.executable, BENCHMARKS / "scale.py", *words], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    rows = [line for line in run.stdout.splitlines() if line.startswith(("| 1 | 8 |", "| 64 | 512 |"))]
    one_node, many_nodes = rows[:2]
    assert one_node.startswith("| 1 | 8 | 3 | object store |")  # 5 MB/s of videos of 1.84 MB
    assert many_nodes.startswith("| 64 | 512 | 3 | object store |")


def test_ratios_are_medians_of_rounds_with_quartiles():
    slow, quick = [Spent(4, 2), Spent(9, 2), Spent(8, 2)], [Spent(2, 1), Spent(3, 1), Spent(2, 1)]
    assert ratio(slow, quick, "wall") == "3.00 (2.50 to 3.50)"
    assert ratio(slow[:1], quick[:1]) == "2.00"


def test_the_table_names_workers():
    assert [Way("32-true", workers).name for workers in (0, 1, 2)] == [
        "32-true",
        "32-true, 1 worker",
        "32-true, 2 workers",
    ]


@pytest.mark.slow
def test_evaluate_with_a_worker_gives_what_the_naive_loop_gives(motion_dataset, tmp_path):
    (tmp_path / "packed").symlink_to(motion_dataset)
    data, checkpoint = prepare(tmp_path, 1, motion_dataset)
    options = argparse.Namespace(num_clips=1, num_crops=1, device="cpu")
    scores = ours(data, checkpoint, tmp_path / "out", options, None, Way("32-true", 1))()
    np.testing.assert_allclose(scores, naive(data, checkpoint, options, None), atol=1e-5)
