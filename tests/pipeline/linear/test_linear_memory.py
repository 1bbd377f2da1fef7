"""Features of many videos: those that do not fit into memory, and files of videos and clips."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features
from pipeline.linear.linear import linear
from pipeline.linear.linear_options import LinearOptions
from pipeline.linear.video_features import read_videos
from tests.conftest import REPOSITORY
from tests.pipeline.linear.test_linear import clouds, write_features


def test_features_that_do_not_fit_into_memory_give_the_same_bytes(tmp_path):
    values, labels = clouds(60, 0)
    keys = [f"v{number // 2}" for number in range(60)]  # two clips a video
    train = write_features(tmp_path / "train.parquet", values, np.repeat(labels[:30], 2), keys=keys, groups=keys)
    test = write_features(tmp_path / "test.parquet", *clouds(30, 1), 1000)
    linear(LinearOptions(tmp_path / "memory", train, test))
    linear(LinearOptions(tmp_path / "file", train, test, max_memory_gb=1e-9))
    for name in ("weights.safetensors", "predictions.parquet"):
        assert (tmp_path / "memory" / name).read_bytes() == (tmp_path / "file" / name).read_bytes()
    mixed = write_features(tmp_path / "mixed.parquet", values, labels, keys=[f"v{number % 30}" for number in range(60)])
    with pytest.raises(ValueError, match="not next to each other; raise --max-memory-gb"):
        linear(LinearOptions(tmp_path / "out", mixed, test, max_memory_gb=1e-9))


def test_rows_of_videos_count_where_a_file_has_those_of_clips_too(motion_checkpoint, motion_dataset, tmp_path):
    for per in ("both", "video"):
        path = tmp_path / per
        features(
            FeatureOptions(
                motion_checkpoint, motion_dataset, out=path, per=per, clip_step=8, num_workers=0, accelerator="cpu"
            )
        )
    both, videos = read_videos(tmp_path / "both"), read_videos(tmp_path / "video")
    np.testing.assert_allclose(both.features.sample(16), videos.features.sample(16), atol=1e-5)
    assert both.keys == videos.keys


MEASURE = """
import resource, sys
from pathlib import Path
from pipeline.linear.linear import linear
from pipeline.linear.linear_options import LinearOptions
import pipeline.linear.linear_probe, sklearn.model_selection
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
folder = Path(sys.argv[1])
linear(LinearOptions(folder / "out", folder / "train", folder / "test", C=0.01, max_memory_gb=0.05))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_features_larger_than_memory_take_a_bounded_part_of_it(tmp_path):
    generator = np.random.default_rng(0)
    for name, first in (("train", 0), ("test", 10**6)):
        labels = np.arange(100_000 if name == "train" else 100) % 3
        values = generator.normal(size=(len(labels), 512)).astype(np.float32)  # 205 MB
        values[:, :3] += 3 * np.eye(3, dtype=np.float32)[labels]
        write_features(tmp_path / name, values, labels, first)
        del values
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", MEASURE, str(tmp_path)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) < 150_000  # kB; the features alone have 204,800
    assert json.loads((tmp_path / "out" / "report.json").read_text())["top1"] > 0.6
