"""What every `fit` gets unless its config says otherwise: a folder, a record, checkpoints, a look at the loss."""

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
from pipeline.checkpoints.keep_checkpoints import KeepCheckpoints
from pipeline.checkpoints.storage import open_storage
from pipeline.training.csv_logger import MetricsCSV
from pipeline.training.nan_guard import NanGuard
from pipeline.training.run_monitor import RunMonitor


class SaveConfiguration(SaveConfigCallback):
    """Writes the whole configuration of a fit to config.yaml in the run's folder, whichever loggers there are."""

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Called on rank 0; a file that the run was started with is left as it is."""
        folder = Path(trainer.default_root_dir)
        path = folder / self.config_filename
        given = [Path(str(one)).resolve() for one in self.config.get("config") or ()]
        if stage != "fit" or "://" in str(trainer.default_root_dir) or path.resolve() in given:
            return
        folder.mkdir(parents=True, exist_ok=True)
        with write_atomically(path) as temporary:
            temporary.write_text(self.parser.dump(self.config, skip_none=False, skip_check=True), encoding="utf-8")


@dataclass(frozen=True)
class JobCallbacks:
    """What a job on a cluster adds to a command, in a run's folder that was made for it.

    Args:
        every_verb: callbacks of fit, validate, test and predict.
        checkpoints: makes the callback for the checkpoints of a fit, whatever the config has for them.
    """

    every_verb: Sequence[pl.Callback]
    checkpoints: Callable[[CheckpointOptions], KeepCheckpoints]


def choose_callbacks(
    settings: dict[str, Any], nan_guards: Sequence[pl.Callback], options: CheckpointOptions, job: JobCallbacks | None
) -> list[pl.Callback]:
    """The callbacks of a fit besides those of its config.

    Args:
        settings: of the Trainer, instantiated.
        nan_guards: the one that the command line makes.
        options: when checkpoints are saved.
        job: the job that this is a rank of; None on a laptop.

    Returns:
        Without KeepCheckpoints where the config has a callback for checkpoints, or wants none; if that is one of
        Lightning's, KeepCheckpoints saves beside it when the run is to leave.
    """
    theirs = settings.get("callbacks") or []
    theirs = theirs if isinstance(theirs, list) else [theirs]
    chosen: list[pl.Callback] = [RunMonitor(owns_checkpoints=job is None)]
    chosen += [] if any(isinstance(one, NanGuard) for one in theirs) else nan_guards
    if job is not None:
        return [*chosen, job.checkpoints(options)]
    if settings.get("enable_checkpointing") is False or settings.get("fast_dev_run"):
        return chosen
    others = [one for one in theirs if isinstance(one, Checkpoint)]
    if all(type(one).__module__.startswith("pytorch_lightning.") for one in others):
        if others:  # which may write there, under names of their own
            options = replace(options, keep_newest=sys.maxsize)
        store = CheckpointStore(open_storage(str(settings["default_root_dir"])), options)
        chosen.append(KeepCheckpoints(options, store, on_leaving_only=bool(others)))
    return chosen


def choose_loggers(settings: dict[str, Any]) -> list[Any]:
    """The loggers of the config, and metrics.csv behind them; it alone where the config names none."""
    theirs = settings.get("logger")
    named = [] if theirs in (None, True, False) else theirs if isinstance(theirs, list) else [theirs]
    return [*named, MetricsCSV(str(settings["default_root_dir"]))]
