"""Private interfaces of Lightning that are used here, as read in version 2.6.6; a test checks each of them.

Besides, `pipeline.training.lightning_cli.TrainingCLI` overrides methods of LightningCLI that begin with `_`.
"""

import subprocess
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

WAIT_SPAN = "[_TrainingEpochLoop].train_dataloader_next"  # how a profiler hears of the wait for a batch
TRANSFER_SPAN = ".batch_to_device"  # how the names of spans end in which a batch goes to the device


def synchronizes_batch_norms(trainer: pl.Trainer) -> bool:
    """Whether the Trainer was asked to synchronize batch norms between ranks."""
    return getattr(trainer.strategy, "_layer_sync", None) is not None


def ddp_options(strategy: DDPStrategy) -> dict[str, Any]:
    """The arguments of DistributedDataParallel that a strategy will construct it with, to be changed in place."""
    return strategy._ddp_kwargs


def validates_next(trainer: pl.Trainer) -> bool:
    """Whether validation follows the training batch that has just ended."""
    loop = trainer.fit_loop
    fetcher = loop._data_fetcher
    return fetcher is not None and loop.epoch_loop._should_check_val_fx(fetcher)


def stop_sigterm_broadcast(trainer: pl.Trainer) -> None:
    """Leave out the broadcast, a wait for the device, by which ranks tell each other before every batch of SIGTERM.

    For runs with a handler of SIGTERM in place of Lightning's, whose word it broadcasts.
    """
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def records_batch(trainer: pl.Trainer) -> bool:
    """Whether loggers record the metrics of the present training batch, or it is the last one of its epoch."""
    is_recorded = trainer._logger_connector.should_update_logs
    return is_recorded or trainer.is_last_batch or bool(vars(trainer).get("fast_dev_run"))


def logged_step(trainer: pl.Trainer) -> int:
    """The step that Lightning logs by, which is not `global_step` with several optimizers."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def last_saved(callback: ModelCheckpoint) -> Path | None:
    """The checkpoint that a ModelCheckpoint wrote last."""
    return Path(callback._last_checkpoint_saved) if callback._last_checkpoint_saved else None


def take_over_launched_ranks(launcher: object) -> list["subprocess.Popen[bytes]"]:
    """Take over from Lightning the ranks that this process started by repeating its command line.

    Where one of them fails, Lightning's observer would kill this process, too.

    Args:
        launcher: `strategy.launcher` of a Trainer.
    """
    if not isinstance(launcher, _SubprocessScriptLauncher):
        return []
    ranks, launcher.procs[:] = list(launcher.procs), []
    return ranks
