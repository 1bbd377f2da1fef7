"""Training, tests and features on clips that travel as planes: what comes of them is what comes of clips in RGB."""

import platform

import pytest
import torch

from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.features.feature_files import read_features
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features
from pipeline.metrics.predictions import read_predictions
from tests.pipeline.conftest import fit

QUICK = {"num_clips": 2, "num_crops": 3, "decoder": "pyav", "num_workers": 0, "accelerator": "cpu"}
pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="FFmpeg rounds otherwise: see datamodules.transforms.yuv420"
)


def test_training_ends_with_the_same_weights(motion_checkpoint, motion_dataset, tmp_path):
    planar = fit(motion_dataset, tmp_path / "planar", "--data.pixels=i420")
    expected, found = (read_checkpoint(path) for path in (motion_checkpoint, planar))
    assert found["datamodule_hyper_parameters"]["pixels"] == "i420"
    assert all(torch.equal(found["state_dict"][name], of) for name, of in expected["state_dict"].items())
    state = expected["ShardedVideoDataModule"]
    assert {name: found["ShardedVideoDataModule"][name] for name in ("order", "epoch", "consumed", "steps")} == {
        name: state[name] for name in ("order", "epoch", "consumed", "steps")
    }


def test_scores_and_features_are_those_in_rgb(motion_checkpoint, motion_dataset, tmp_path):
    scores, rows = [], []
    for pixels in ("rgb", "i420"):
        folder, file = tmp_path / pixels, tmp_path / f"{pixels}.parquet"
        evaluate(EvaluateOptions(motion_checkpoint, motion_dataset, out=folder, pixels=pixels, **QUICK))
        features(FeatureOptions(motion_checkpoint, motion_dataset, out=file, pixels=pixels, **QUICK))
        scores.append(read_predictions(folder / "predictions.parquet")[0])
        rows.append(read_features(file)[0])
    assert (scores[0] == scores[1]).all()
    assert (rows[0] == rows[1]).all()
