"""The benchmarks that load clips: their options parse, and this project's side of them works, on little data."""

import json
import subprocess
import sys

import pytest

from benchmarks.loading.loader_sides import own_batches, time_conversion


def test_says_what_it_takes():
    run = subprocess.run([sys.executable, "-m", "benchmarks.loading.loader", "--help"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "--rounds" in run.stdout


@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_our_side_loads_batch_after_batch(motion_dataset, pixels):
    job = {
        "root": str(motion_dataset), "batch": 4, "clips_per_video": 2, "frames": 8, "size": 32, "short_side": 48,
        "split": "train", "options": {"sided_classes": "keep"}, "device": "cpu", "pixels": pixels,
    }  # fmt: skip
    batches = own_batches(json.loads(json.dumps(job)))
    assert [next(batches) for _ in range(25)] == [4] * 25  # 20 batches are an epoch
    assert time_conversion(job) > 0
