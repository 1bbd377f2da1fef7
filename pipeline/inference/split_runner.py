"""One pass of a network over a split, in one process or several, without anything that training needs."""

import contextlib
import logging
import os
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.video.decoding import DecodeError
from lightning_modules.tasks.lightning_internals import take_started_ranks
from pipeline.inference.inference_options import ComputeOptions
from pipeline.processes.precision import tell_slow_half
from pipeline.processes.rank_exit import drop_ddp_wrapper

_END_S = 10.0  # for a killed rank to be gone

_launched: dict[str, Any] = {}  # settings of the Trainer in a process that is one of several, started by others


@contextlib.contextmanager
def distributed_inference(settings: Mapping[str, Any]) -> Iterator[None]:
    """Within it, `run_over_split` is one rank of processes that others started, on any number of nodes.

    Args:
        settings: of the Trainer: strategy, plugins, accelerator, devices. They hold in place of what callers ask for.
    """
    _launched.update(settings)
    try:
        yield
    finally:
        _launched.clear()


@contextlib.contextmanager
def explain_decode_failure(index: DatasetIndex, otherwise: str) -> Iterator[None]:
    """Within it, the error of a video that cannot be decoded says what can be done.

    Args:
        index: of the dataset.
        otherwise: what else there is than to leave such videos out, or what follows.
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
        raise DecodeError(f"{error}; leave such videos out: {leave_out}{otherwise}", error.reason) from error


def run_over_split(
    model: pl.LightningModule,
    data: pl.LightningDataModule,
    callback: pl.Callback,
    compute: ComputeOptions,
) -> bool:
    """Runs `trainer.predict`; the callback takes what the steps return.

    Args:
        model: in evaluation mode.
        data: gives the loader.
        callback: takes the steps' outputs.
        compute: on what. More than one process is started by repeating this process's command line. Within
            `distributed_inference` there are as many as were started.

    Returns:
        Whether this is the first rank, which is the one to report.

    Raises:
        ValueError: several processes are asked for, but this is not the command line that could be repeated; or there
            is no such accelerator.
    """
    accelerator, devices = compute.accelerator, compute.devices
    if devices > 1 and not _launched and not _command_line_can_be_repeated():
        raise ValueError(
            f"devices={devices}: works from the command line, `python -m pipeline ...`; here use devices=1"
        )
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")  # Lightning 2.6 on torch 2.13
    alone = {"accelerator": accelerator, "devices": devices, "strategy": "ddp" if devices > 1 else "auto"}
    try:
        trainer = pl.Trainer(
            **(_launched or alone),
            precision=compute.precision,
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=sys.stderr.isatty(),
            use_distributed_sampler=False,  # the plan already gives every rank its share
        )
    except MisconfigurationException as error:
        raise ValueError(f"accelerator={accelerator!r}, devices={devices}: {error}") from error
    tell_slow_half(trainer)
    try:
        trainer.predict(model, data, return_predictions=False)
    except BaseException:
        end_other_ranks(trainer.strategy.launcher)
        raise
    drop_ddp_wrapper(trainer)
    return bool(trainer.is_global_zero)


def end_other_ranks(launcher: object) -> None:
    """Ends the ranks that this process has started: they wait in a collective that will never come.

    By SIGKILL: a rank in a collective of NCCL never comes back to Python, where a handler of SIGTERM could run.
    """
    ranks = take_started_ranks(launcher)
    for rank in ranks:
        rank.kill()
    for rank in ranks:
        with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits for a disk goes when that answers
            rank.wait(_END_S)


def _command_line_can_be_repeated() -> bool:
    """Whether `sys.argv` is ours, or the processes were all started by somebody else (torchrun, SLURM)."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    ours = spec is not None and spec.name.split(".")[0] == "pipeline"
    return ours or Path(sys.argv[0]).name.startswith("action-pipeline") or "LOCAL_RANK" in os.environ
