"""One inference pass of a network over a split, in one process or several; and a trial with one clip before it."""

import contextlib
import logging
import os
import shlex
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.batch import ClipBatch
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.video.decoding import DecodeError
from lightning_modules.layers.execution_options import use_channels_last
from pipeline.inference.inference_options import ComputeOptions
from pipeline.inference.trained_checkpoint import TrainedCheckpoint
from pipeline.processes.precision import warn_slow_half
from pipeline.processes.rank_exit import drop_ddp_wrapper, end_other_ranks

# Arguments of the Trainer in a rank that another launcher started. The verbs between the launcher and the Trainer know
# nothing of ranks, so the arguments pass around them.
_launcher_arguments: ContextVar[Mapping[str, Any] | None] = ContextVar("launcher_arguments", default=None)


@contextlib.contextmanager
def distributed_inference(settings: Mapping[str, Any]) -> Iterator[None]:
    """Context in which `run_over_split` runs as one rank of externally launched processes, on any number of nodes.

    Args:
        settings: arguments of the Trainer (strategy, plugins, accelerator, devices), which replace the callers' own.
    """
    token = _launcher_arguments.set(dict(settings))
    try:
        yield
    finally:
        _launcher_arguments.reset(token)


def is_launched_rank() -> bool:
    """Whether this process is one rank of externally launched ones, within `distributed_inference`."""
    return _launcher_arguments.get() is not None


@contextlib.contextmanager
def explain_decode_failure(index: DatasetIndex, alternative: str) -> Iterator[None]:
    """Context that adds advice to the error of a video that cannot be decoded.

    Args:
        index: the index of the dataset.
        alternative: end of the advice: an alternative to leaving such videos out, or what happens then.
    """
    try:
        yield
    except DecodeError as error:
        if isinstance(index.root, str):
            leave_out = f"add their keys to {index.root}/quarantine.csv"
        else:
            root = shlex.quote(str(index.root))
            leave_out = (
                f"python -m pipeline quarantine {root} KEY ... (python -m pipeline verify {root} --full finds all)"
            )
        raise DecodeError(f"{error}; leave such videos out: {leave_out}{alternative}", error.reason) from error


@contextlib.contextmanager
def explain_unshared_files() -> Iterator[None]:
    """Context that adds this node's name and advice to FileNotFoundError in an externally launched rank."""
    try:
        yield
    except FileNotFoundError as error:
        if _launcher_arguments.get() is None:
            raise
        raise FileNotFoundError(
            f"node {socket.gethostname()}: {error}; give a folder that all nodes share, at the same path, or pack the "
            "videos and give --data"
        ) from None


def try_one_clip(trained: TrainedCheckpoint, data: ShardedVideoDataModule) -> None:
    """Classifies one black clip on the CPU, before the first video is read; for whole videos, two lengths.

    Raises:
        ValueError: the network was built for clips of another shape.
    """
    options = data.options
    clip = torch.zeros(
        1, options.num_frames, options.crop_size, options.crop_size, trained.model.num_channels, dtype=torch.uint8
    )
    with _explain_clip_shape(trained, data):
        for clips in [clip.repeat(1, 2, 1, 1, 1), clip] if options.test_sampling == "whole" else [clip]:
            trained.model(ClipBatch.from_clips(clips))


def try_layers(trained: TrainedCheckpoint, data: ShardedVideoDataModule, layers: Sequence[str]) -> dict[str, Tensor]:
    """Runs one gray clip on the CPU and returns the outputs of layers by name, float (1, ...).

    For whole videos, two lengths are tried.

    Raises:
        ValueError: the layer does not exist, or the network was built for clips of another shape.
    """
    num_frames, size, channels = data.options.num_frames, data.options.crop_size, trained.model.num_channels
    if not set(layers) <= set(trained.model.endpoints_available):
        trained.model.endpoints(torch.empty(0), layers)  # raises an error that lists the layers
    with _explain_clip_shape(trained, data):
        if data.options.test_sampling == "whole":
            trained.model.endpoints(torch.zeros(1, channels, 2 * num_frames, size, size), layers)
        return trained.model.endpoints(torch.zeros(1, channels, num_frames, size, size), layers)


@contextlib.contextmanager
def _explain_clip_shape(trained: TrainedCheckpoint, data: ShardedVideoDataModule) -> Iterator[None]:
    """Context without gradients in which errors name the clips of the data module, and the network."""
    options = data.options
    try:
        with torch.inference_mode():
            yield
    except (RuntimeError, ValueError) as error:
        is_whole = options.test_sampling == "whole"
        clips_description = (
            "clips of any length, for whole videos"
            if is_whole
            else f"num_frames={options.num_frames}, crop_size={options.crop_size}"
        )
        raise ValueError(
            f"{clips_description}: the {type(trained.model).__name__} of {trained.path} was built for other clips "
            f"({str(error).splitlines()[0]})"
        ) from error


def run_over_split(
    model: pl.LightningModule,
    data: pl.LightningDataModule,
    callback: pl.Callback,
    compute: ComputeOptions,
) -> bool:
    """Runs `trainer.predict`; the callback consumes the outputs of the steps.

    Args:
        model: the network, in evaluation mode.
        data: data module that provides the prediction loader.
        callback: callback that consumes the outputs.
        compute: accelerator, devices and precision. Further processes are started by repeating this process's command
            line; within `distributed_inference` the launched ranks are used instead.

    Returns:
        Whether this is rank 0, which reports.

    Raises:
        ValueError: several devices are requested in a process whose command line cannot be repeated; or the accelerator
            does not exist.
    """
    accelerator, devices = compute.accelerator, compute.devices
    launched = _launcher_arguments.get()
    if devices > 1 and launched is None and not _is_command_line_repeatable():
        raise ValueError(
            f"devices={devices}: works from the command line, `python -m pipeline ...`; here use devices=1"
        )
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")  # Lightning 2.6 on torch 2.13
    alone = {"accelerator": accelerator, "devices": devices, "strategy": "ddp" if devices > 1 else "auto"}
    try:
        trainer = pl.Trainer(
            **(alone if launched is None else launched),
            precision=compute.precision,
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
            use_distributed_sampler=False,  # the plan already shards the videos over ranks
        )
    except MisconfigurationException as error:
        raise ValueError(f"accelerator={accelerator!r}, devices={devices}: {error}") from error
    warn_slow_half(trainer)
    if trainer.strategy.root_device.type == "cuda":
        use_channels_last(model)  # as clips are: cuDNN would lay the filters out anew in every pass
    try:
        trainer.predict(model, data, return_predictions=False)
    except BaseException:
        end_other_ranks(trainer.strategy.launcher)
        raise
    drop_ddp_wrapper(trainer)
    return bool(trainer.is_global_zero)


def _is_command_line_repeatable() -> bool:
    """Whether this is our command line, or a launcher (torchrun, SLURM) started all processes."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    ours = spec is not None and spec.name.split(".")[0] == "pipeline"
    return ours or Path(sys.argv[0]).name.startswith("action-pipeline") or "LOCAL_RANK" in os.environ
