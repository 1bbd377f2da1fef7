"""What every `fit` gets unless its config says otherwise: a folder, a record, checkpoints, a look at the loss."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.cli import SaveConfigCallback

from datamodules.storage.atomic_write import write_atomically
from pipeline.checkpoints.checkpoint_folder import CHECKPOINTS
from pipeline.checkpoints.keep_checkpoints import KeepCheckpoints
from pipeline.checkpoints.preemption import SaveOnSigterm
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


def choose_callbacks(settings: dict[str, Any], ours: list[pl.Callback]) -> list[pl.Callback]:
    """The callbacks of a fit besides those of its config.

    Args:
        settings: of the Trainer, instantiated.
        ours: those that the command line makes: KeepCheckpoints and NanGuard.

    Returns:
        Without KeepCheckpoints where the config has a callback for checkpoints, or wants none; SaveOnSigterm is in its
        place if that is one of Lightning's.
    """
    theirs = settings.get("callbacks") or []
    theirs = theirs if isinstance(theirs, list) else [theirs]
    chosen: list[pl.Callback] = [RunMonitor(owns_checkpoints=not any(_is_of_a_job(one) for one in theirs))]
    chosen += [one for one in ours if isinstance(one, NanGuard) and not _has(theirs, NanGuard)]
    if settings.get("enable_checkpointing") is False or settings.get("fast_dev_run"):
        return chosen
    others = [one for one in theirs if isinstance(one, Checkpoint)]
    if not others:
        chosen += [one for one in ours if isinstance(one, KeepCheckpoints)]
    elif all(type(one).__module__.startswith("pytorch_lightning.") for one in others):
        chosen.append(SaveOnSigterm(str(Path(settings["default_root_dir"]) / CHECKPOINTS)))
    return chosen


def choose_loggers(settings: dict[str, Any]) -> list[Any]:
    """The loggers of the config, and metrics.csv behind them; it alone where the config names none."""
    theirs = settings.get("logger")
    named = [] if theirs in (None, True, False) else theirs if isinstance(theirs, list) else [theirs]
    return [*named, MetricsCSV(str(settings["default_root_dir"]))]


def _is_of_a_job(callback: pl.Callback) -> bool:
    """Whether it looks after the checkpoints of a job on a cluster, which begins in a folder that was made for it."""
    return isinstance(callback, Checkpoint) and type(callback).__module__.startswith("jobs.")


def _has(callbacks: list[Any], kind: type) -> bool:
    return any(isinstance(one, kind) for one in callbacks)
