"""Default callbacks and loggers of `fit`: saved configuration, monitoring, checkpoints and the check of the loss."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.cli import SaveConfigCallback

from datamodules.storage.atomic_write import write_atomically
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_store import CheckpointStore
from pipeline.checkpoints.run_checkpoint import RunCheckpoint
from pipeline.checkpoints.storage import open_storage
from pipeline.processes.ddp_options import BufferBroadcast
from pipeline.training.csv_logger import MetricsCSVLogger
from pipeline.training.nan_guard import NanGuard
from pipeline.training.run_monitor import RunMonitor


class SaveConfigurationCallback(SaveConfigCallback):
    """Callback that writes the resolved configuration of a fit to config.yaml in the run's folder."""

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Writes the file, on rank 0; a config file that the run was started with is not overwritten."""
        folder = Path(trainer.default_root_dir)
        path = folder / self.config_filename
        config_files = [Path(str(file)).resolve() for file in self.config.get("config") or ()]
        if stage != "fit" or "://" in str(trainer.default_root_dir) or path.resolve() in config_files:
            return
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as temporary:
            temporary.write_text(self.parser.dump(self.config, skip_none=False, skip_check=True), encoding="utf-8")


@dataclass(frozen=True)
class JobCallbacks:
    """Callbacks that a cluster job adds to a Lightning command.

    Args:
        every_verb: callbacks of fit, validate, test and predict.
        checkpoints: factory of the checkpoint callback of a fit; used whatever checkpoint callbacks the config has.
    """

    every_verb: Sequence[pl.Callback]
    checkpoints: Callable[[CheckpointOptions], RunCheckpoint]


def choose_callbacks(
    settings: dict[str, Any], nan_guards: Sequence[pl.Callback], options: CheckpointOptions, job: JobCallbacks | None
) -> list[pl.Callback]:
    """Chooses the callbacks that a fit gets in addition to those of its config.

    Args:
        settings: arguments of the Trainer, instantiated.
        nan_guards: the NanGuard that the command line creates; left out if the config has a NanGuard.
        options: when checkpoints are saved and which are kept.
        job: callbacks of the cluster job that this process is a rank of; None outside of one.

    Returns:
        The callbacks, without RunCheckpoint if the config disables checkpoints or has its own checkpoint callback;
        beside one of Lightning's, RunCheckpoint saves at preemption only.
    """
    configured = settings.get("callbacks") or []
    configured = configured if isinstance(configured, list) else [configured]
    chosen: list[pl.Callback] = [BufferBroadcast(), RunMonitor(owns_checkpoints=job is None)]
    chosen += [] if any(isinstance(callback, NanGuard) for callback in configured) else nan_guards
    if job is not None:
        return [*chosen, job.checkpoints(options)]
    if settings.get("enable_checkpointing") is False or settings.get("fast_dev_run"):
        return chosen
    checkpoint_callbacks = [callback for callback in configured if isinstance(callback, Checkpoint)]
    if all(type(callback).__module__.startswith("pytorch_lightning.") for callback in checkpoint_callbacks):
        if checkpoint_callbacks:  # they may write to the same folder, under other names
            options = replace(options, keep_newest=sys.maxsize)
        store = CheckpointStore(open_storage(str(settings["default_root_dir"])), options)
        chosen.append(RunCheckpoint(options, store, on_preemption_only=bool(checkpoint_callbacks)))
    return chosen


def choose_loggers(settings: dict[str, Any]) -> list[Any]:
    """Returns the loggers of the config, if any, followed by MetricsCSVLogger."""
    configured = settings.get("logger")
    loggers = [] if configured in (None, True, False) else configured if isinstance(configured, list) else [configured]
    return [*loggers, MetricsCSVLogger(str(settings["default_root_dir"]))]
