"""`classify --linear`: a linear classifier on its own network gives what `linear` said of the same videos."""

import json

import numpy as np
import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.__main__ import main
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features
from pipeline.linear.linear import linear
from pipeline.linear.linear_options import LinearOptions
from pipeline.metrics.predictions import read_predictions


@pytest.fixture(scope="module")
def videos(motion_dataset, tmp_path_factory):
    """A folder of the test videos."""
    folder, index = tmp_path_factory.mktemp("videos"), DatasetIndex.open(motion_dataset)
    for row in index.rows("test"):
        (folder / f"{index.entry(int(row)).key}.mp4").write_bytes(index.read_video(int(row)))
    return folder


@pytest.mark.parametrize(
    ("kind", "clips", "normalize"),
    [
        ("logistic", {"num_clips": 2}, "l2"),
        ("svm", {"clip_step": 4, "pool": "mean_max", "layer": ["pool5", "fc6"]}, "signed_sqrt"),
        ("svm", {"whole": True, "layer": ["pool4"]}, "l2"),
    ],
)
def test_the_scores_are_those_of_linear(
    kind, clips, normalize, motion_checkpoint, motion_dataset, videos, tmp_path, capsys
):
    for split in ("train", "test"):
        features(
            FeatureOptions(
                motion_checkpoint,
                motion_dataset,
                out=tmp_path / split,
                split=split,
                **clips,
                num_workers=0,
                accelerator="cpu",
            )
        )
    choice = {"classifier": kind, "normalize": normalize, "layer": clips.get("layer")}
    linear(LinearOptions(tmp_path / "out", tmp_path / "train", tmp_path / "test", **choice))
    capsys.readouterr()
    words = [str(videos), "--checkpoint", str(motion_checkpoint), "--linear", str(tmp_path / "out/weights.safetensors")]
    assert main(["classify", *words, "--json", "--top", "8"]) == 0
    told = {json.loads(line)["video"]: json.loads(line)["top"] for line in capsys.readouterr().out.splitlines()}
    scores, table = read_predictions(tmp_path / "out" / "predictions.parquet")
    if kind == "svm":
        scores = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    names = DatasetIndex.open(motion_dataset).classes
    assert len(told) == 16
    for key, from_clips in zip(table.column("key").to_pylist(), scores, strict=True):
        found = {one["class"]: one["probability"] for one in told[str(videos / f"{key}.mp4")]}
        np.testing.assert_allclose([found[name] for name in names], from_clips, atol=1e-4)


def test_another_network_is_refused(motion_checkpoint, motion_dataset, folded_checkpoint, videos, tmp_path, capsys):
    for split in ("train", "test"):
        features(
            FeatureOptions(
                motion_checkpoint,
                motion_dataset,
                out=tmp_path / split,
                split=split,
                num_clips=1,
                num_workers=0,
                accelerator="cpu",
            )
        )
    linear(LinearOptions(tmp_path / "out", tmp_path / "train", tmp_path / "test"))
    weights = tmp_path / "out" / "weights.safetensors"
    for checkpoint, file, message in (
        (folded_checkpoint, weights, f"was fitted on features of {motion_checkpoint}"),
        (motion_checkpoint, tmp_path / "absent", "no such file; `python -m pipeline linear` writes them"),
        (motion_checkpoint, motion_checkpoint, "not weights that `linear` wrote"),
    ):
        assert main(["classify", str(videos), "--checkpoint", str(checkpoint), "--linear", str(file)]) == 2
        assert message in capsys.readouterr().err
