"""Defaults of clips, their order, views and augmentation: what a run has that says nothing, and so its results."""

from dataclasses import MISSING, fields

import pytest

from datamodules.sampling.clip_options import ClipOptions, ViewOptions
from datamodules.sampling.clip_sampling import ClipSampler
from datamodules.sampling.clip_shape import ClipShape
from datamodules.sampling.epoch_plan import TrainPlan
from datamodules.sampling.order_options import OrderOptions
from datamodules.transforms.augmentation_options import AugmentationOptions
from datamodules.transforms.clip_transforms import EvalTransform, TrainTransform
from datamodules.transforms.color_jitter import ColorJitter
from datamodules.transforms.rand_augment import RandAugment

ORDER = {"seed": 0, "shuffle": "global", "shard_window": 16, "drop_last": False}
# Those that are neither None nor left out; what papers say is in the classes' docstrings.
DEFAULTS = {
    ClipShape: {"frame_interval": 1, "short_videos": "loop", "segments": False},
    ClipSampler: {"num_clips": 1, "step": 8, "still": False, "max_frames": 512},
    ClipOptions: {
        **{"num_frames": 16, "frame_interval": 1, "short_videos": "loop", "segments": False},
        **{"still": False, "stream": "rgb"},
    },
    ViewOptions: {
        **{"clips_per_video": 1, "val_num_clips": 1, "test_sampling": "uniform", "num_clips": 10, "num_crops": 1},
        **{"max_frames": 512},
    },
    OrderOptions: {**ORDER, "class_balance": "none"},
    TrainPlan: {**ORDER, "world_size": 1, "shard_sizes": ()},
    AugmentationOptions: {"random_resized_crop": False, "flip_probability": 0.5, "sided_classes": "refuse"},
    TrainTransform: {
        **{"random_resized": False, "flip_probability": 0.5, "scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3)},
    },
    EvalTransform: {"num_crops": 1},
    RandAugment: {"num_ops": 2, "magnitude": 9.0},
    ColorJitter: {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "probability": 0.8},
}


@pytest.mark.parametrize("options", DEFAULTS)
def test_defaults_are_those_that_results_were_made_with(options):
    found = {one.name: one.default for one in fields(options) if one.default not in (None, MISSING)}
    assert found == DEFAULTS[options]
