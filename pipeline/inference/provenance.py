"""Provenance of predictions and features: checkpoint, videos, sampling, decoder and libraries, as plain data."""

from importlib.metadata import version
from typing import Any

import numpy as np

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.video.decoding import describe_decoder
from lightning_modules.tasks.saved_network import plain_data
from pipeline.inference.inference_options import ComputeOptions
from pipeline.inference.trained_checkpoint import CLIP_SETTINGS, TrainedCheckpoint
from pipeline.processes.compute_device import describe_arithmetic, device_name

_LIBRARIES = ("torch", "pytorch-lightning", "torchmetrics", "numpy", "pyarrow", "scikit-learn")


def describe_checkpoint(trained: TrainedCheckpoint, data: ShardedVideoDataModule) -> dict[str, Any]:
    """Returns the provenance of predictions or features, as plain data for the files' metadata."""
    options = data.options
    sampling = {name: plain_data(getattr(options, name)) for name in CLIP_SETTINGS}
    spread = options.clip_step is None and options.test_sampling == "uniform"
    sampling["num_clips"] = options.num_clips if spread else None
    sampling |= {"clip_step": options.clip_step, "num_crops": options.num_crops}
    if options.test_sampling == "whole":
        sampling["max_frames"] = options.max_frames
    program = {} if trained.program is None else {"program": trained.program}
    return {
        "checkpoint": trained.source,
        "checkpoint_sha256": trained.sha256,
        **program,
        "model": f"{type(trained.model).__module__}.{type(trained.model).__qualname__}",
        "dataset": data.index.name,
        "dataset_identity": data.index.identity,
        "split": options.test_split,
        **{name: data.identity[name] for name in ("rendition", "fold", "split_file")},
        "quarantined": quarantined_keys(data),
        "sampling": sampling,
        "decoder": describe_decoder(data.decoder),
        "task": data.index.task,
        "classes": list(data.class_names),
        "versions": library_versions(),
    }


def describe_computation(options: ComputeOptions) -> dict[str, str]:
    """Returns precision, arithmetic (`describe_arithmetic`) and model of the device."""
    return {
        "precision": options.precision,
        "arithmetic": describe_arithmetic(options.accelerator, options.precision),
        "device": device_name(options.accelerator),
    }


def library_versions() -> dict[str, str]:
    """Returns the versions of the libraries that results may depend on."""
    return {name: version(name) for name in _LIBRARIES}


def quarantined_keys(data: ShardedVideoDataModule) -> list[str]:
    """Returns the keys of the quarantined videos of the split, which are not read, in the order of the index."""
    index = data.index
    rows = index.rows(data.options.test_split, data.options.fold)
    return list(index.column("key", index.quarantined[np.isin(index.quarantined, rows, assume_unique=True)]))
