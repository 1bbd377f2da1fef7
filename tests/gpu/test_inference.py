"""`evaluate` and `features` give on a GPU what they give on the CPU in float32, within bounds by precision."""

import numpy as np
import pytest

from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.features.feature_files import read_features
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.features import features
from pipeline.metrics.predictions import read_predictions
from tests.gpu.devices import ACCELERATORS, SLOW_ON_CPU

# On a GPU torch computes the convolutions of 32-true in TF32, unless told otherwise: 10 bits of mantissa; bf16 has 7.
SCORES = {"32-true": 2e-3, "bf16-mixed": 3e-2}  # largest difference of a probability
FEATURES = {"32-true": 5e-3, "bf16-mixed": 3e-2}  # norm of the difference relative to the norm
VIEWS = {"num_clips": 2, "num_crops": 3, "num_workers": 0}


@pytest.mark.parametrize("device", SLOW_ON_CPU)
@pytest.mark.parametrize("precision", SCORES)
@pytest.mark.parametrize("pixels", ["rgb", "i420"])
def test_scores_are_those_of_the_cpu(device, precision, pixels, motion_checkpoint, motion_dataset, tmp_path):
    def scores(name: str, **options: object) -> np.ndarray:
        out = tmp_path / name
        evaluate(EvaluateOptions(motion_checkpoint, motion_dataset, out=out, **VIEWS, **options))
        return read_predictions(out / "predictions.parquet")[0]

    expected = scores("cpu", accelerator="cpu")
    found = scores("found", accelerator=ACCELERATORS[device], precision=precision, pixels=pixels)
    assert found.shape == (16, 8)
    assert expected.std(axis=0).max() > SCORES[precision] / 10  # the videos' scores differ
    assert np.abs(found - expected).max() <= SCORES[precision]


@pytest.mark.parametrize("device", SLOW_ON_CPU)
@pytest.mark.parametrize("precision", FEATURES)
def test_features_are_those_of_the_cpu(device, precision, motion_checkpoint, motion_dataset, tmp_path):
    def export(name: str, **options: object) -> np.ndarray:
        path = tmp_path / f"{name}.parquet"
        features(FeatureOptions(motion_checkpoint, motion_dataset, out=path, **VIEWS, **options))
        return read_features(path)[0]

    expected = export("cpu", accelerator="cpu")
    found = export("found", accelerator=ACCELERATORS[device], precision=precision)
    assert found.shape == expected.shape == (16, 128)
    assert np.linalg.norm(found - expected) <= FEATURES[precision] * np.linalg.norm(expected)
