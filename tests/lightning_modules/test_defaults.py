"""Defaults of networks, training and averaging: what a run has that says nothing, and so its results."""

import inspect
from dataclasses import fields

import pytest

import lightning_modules
from lightning_modules.networks.frame_sequence import FrameSequenceNetwork
from lightning_modules.tasks.classification_loss import ClassificationLoss
from lightning_modules.tasks.optimization import OptimizationOptions
from lightning_modules.weights.weight_ema import WeightEMA

TRAINING = {
    **{"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.9, "weight_decay": 5e-4},
    **{
        "warmup_fraction": 0.0,
        "lr_schedule": "cosine",
        "lr_milestones": (),
        "lr_step_fraction": 1 / 3,
        "lr_gamma": 0.1,
    },
}
INCEPTION = {"in_channels": 3, "padding": "same", "bn_scale": False}
# Those that are neither None nor left out; what papers say is in the classes' docstrings.
DEFAULTS = {
    "VideoNetwork": {
        **TRAINING,
        **{"subtract_mean_flow": False, "precise_bn_batches": 0, "seed": 0},
        **{"channels_last": False, "space_to_depth": False, "compile": False, "checkpoint_activations": False},
    },
    "VideoClassifier": {
        **{"task": "single_label", "label_smoothing": 0.0, "class_weights": "none", "focal_gamma": 0.0},
        **{"mixup_alpha": 0.0, "cutmix_alpha": 0.0, "mix_probability": 1.0},
    },
    "FrameSequenceNetwork": {
        **INCEPTION,
        **{"encoder": "small", "freeze_encoder": False, "channels": (32, 64, 128, 256), "standardize": False},
    },
    "C3D": {"width": 64, "num_frames": 16, "crop_size": 112, "batch_norm": False, "dropout": 0.5, "in_channels": 3},
    "I3D": {**INCEPTION, "time_padding": "zeros", "dropout": 0.5},
    "InceptionV1": {**INCEPTION, "dropout": 0.4},
    "CNNLSTM": {
        **{"hidden_size": 256, "cell": "lstm", "num_layers": 1, "bidirectional": False},
        **{"readout": "mean", "dropout": 0.5},
    },
    "FrameClassifier": {"dropout": 0.5},
    "TwoStream": {"network": "I3D", "fusion": "logits", "dropout": 0.5},
    "PretrainedVideoNetwork": {
        **{"probe_depth": 4, "dropout": 0.0, "layer_decay": 1.0, "lora_rank": 0},
        "weights": "pretrained",
    },
    "Video2Vec": {
        **{"hidden_size": 512, "num_layers": 1, "predicted_frames": 5},
        **{"reconstruct": True, "conditional": False, "standardize": True},
    },
    "VideoDescriber": {
        **{"units": "words", "min_count": 1, "max_length": 20, "beam_size": 3, "hidden_size": 256},
        **{"embedding_size": 128, "freeze_embedding": False, "tie_embedding": False, "num_layers": 1},
        **{"readout": "mean", "dropout": 0.5},
    },
    "WeightEMA": {"decay": 0.999, "update_every_n_steps": 1},
    "ClassificationLoss": {"label_smoothing": 0.0, "focal_gamma": 0.0, "multi_label": False},
}
CLASSES = {name: getattr(lightning_modules, name) for name in lightning_modules.__all__}
CLASSES |= {one.__name__: one for one in (FrameSequenceNetwork, WeightEMA, ClassificationLoss)}


def defaults_of(one: type) -> dict[str, object]:
    parameters = inspect.signature(one.__init__).parameters
    given = {name: parameter.default for name, parameter in parameters.items()}
    return {name: value for name, value in given.items() if value not in (None, inspect.Parameter.empty)}


@pytest.mark.parametrize("name", CLASSES)
def test_defaults_are_those_that_results_were_made_with(name):
    assert defaults_of(CLASSES[name]) == DEFAULTS[name]


def test_features_are_of_the_layers_that_the_docs_name():
    layers = {name: one.feature_layer for name, one in CLASSES.items() if getattr(one, "feature_layer", "")}
    assert layers == {
        **{"C3D": "fc6", "I3D": "Mixed_5c", "InceptionV1": "Mixed_5c", "TwoStream": "features"},
        "PretrainedVideoNetwork": "pooled",
        **dict.fromkeys(("CNNLSTM", "FrameClassifier", "Video2Vec", "VideoDescriber"), "state"),
    }


def test_options_checked_early_are_those_of_the_network():
    options = {one.name: one.default for one in fields(OptimizationOptions) if one.default is not None}
    assert options == TRAINING
