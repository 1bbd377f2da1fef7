"""`evaluate` and `features` give on a GPU what they give on the CPU in float32, within bounds by precision."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.datamodule import ShardedVideoDataModule
from lightning_modules import VideoClassifier
from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.features.feature_files import read_features
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features
from pipeline.metrics.predictions import read_predictions
from tests.gpu.devices import ACCELERATORS, SLOW_ON_CPU

# On a GPU torch computes the convolutions of 32-true in TF32, unless told otherwise: with 10 bits of mantissa, and bf16
# with 7. In bf16 on a CPU scores differed by 0.0084 and features by 0.030.
SCORES = {"32-true": 0.005, "bf16-mixed": 0.03}  # largest difference of a probability, of scores 0.3 apart and more
FEATURES = {"32-true": 0.02, "bf16-mixed": 0.1}  # norm of the difference, relative to that of the deviations
VIEWS = {"num_clips": 2, "num_crops": 3}


@pytest.fixture(scope="module")
def checkpoint(motion_checkpoint: Path, motion_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint with a classifier that tells the test videos apart, along the first principal axis of fc7.

    Scores of a network that has hardly been trained are the same for all videos, whatever it computes.
    """
    model = VideoClassifier.load(motion_checkpoint)
    data = ShardedVideoDataModule(str(motion_dataset), batch_size=8, crop_size=32, num_workers=0, **VIEWS)
    with torch.inference_mode():
        batches = [data.on_after_batch_transfer(batch, 0) for batch in data.predict_dataloader()]
        rows = torch.cat([model.endpoints(model.normalize(batch), ["fc7"])["fc7"] for batch in batches])
    _, sizes, axes = torch.linalg.svd(rows - rows.mean(0), full_matrices=False)
    weight = torch.linspace(-3, 3, 8)[:, None] * axes[:1] * len(rows) ** 0.5 / sizes[0]
    content = read_checkpoint(motion_checkpoint)
    content["state_dict"] |= {"stages.logits.weight": weight, "stages.logits.bias": -weight @ rows.mean(0)}
    path = tmp_path_factory.mktemp("told-apart") / "last.ckpt"
    torch.save(content, path)
    return path


@pytest.mark.parametrize("device", SLOW_ON_CPU)
@pytest.mark.parametrize("precision", SCORES)
def test_scores_are_those_of_the_cpu(device, precision, checkpoint, motion_dataset, tmp_path):
    def scores(name: str, **options: object) -> np.ndarray:
        out = tmp_path / name
        evaluate(EvaluateOptions(checkpoint, motion_dataset, out=out, **VIEWS, **options))
        return read_predictions(out / "predictions.parquet")[0]

    expected = scores("cpu", accelerator="cpu", num_workers=0)
    pixels = "rgb" if precision == "32-true" else "i420"
    found = scores("found", accelerator=ACCELERATORS[device], precision=precision, pixels=pixels, num_workers=1)
    assert found.shape == (16, 8)
    assert np.ptp(expected, axis=0).max() > 0.3
    assert np.abs(found - expected).max() <= SCORES[precision]


@pytest.mark.parametrize("device", SLOW_ON_CPU)
@pytest.mark.parametrize("precision", FEATURES)
def test_features_are_those_of_the_cpu(device, precision, checkpoint, motion_dataset, tmp_path):
    def export(name: str, **options: object) -> np.ndarray:
        path = tmp_path / f"{name}.parquet"
        features(FeatureOptions(checkpoint, motion_dataset, out=path, num_workers=0, **VIEWS, **options))
        return read_features(path)[0]

    expected = export("cpu", accelerator="cpu")
    found = export("found", accelerator=ACCELERATORS[device], precision=precision)
    assert found.shape == expected.shape == (16, 128)
    deviations = np.linalg.norm(expected - expected.mean(0))
    assert np.linalg.norm(found - expected) <= FEATURES[precision] * deviations
