"""Benchmarks run as files, from anywhere, and count as they say."""

import subprocess
import sys
from pathlib import Path

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
