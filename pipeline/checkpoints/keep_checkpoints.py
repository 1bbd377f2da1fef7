"""KeepCheckpoints: the checkpoints that every `fit` keeps, unless its config has another callback for them.

Not Lightning's ModelCheckpoint: that one saves by steps or by minutes, not both, keeps the newest or the best, and
remembers what it keeps in the checkpoints themselves, so that each restart leaves files behind that nobody removes.
"""

import time
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info

from lightning_modules.tasks.lightning_internals import validates_next
from pipeline.checkpoints.checkpoint_folder import CHECKPOINTS, CheckpointFolder
from pipeline.checkpoints.preemption import LateAgreement, SaveOnSigterm
from pipeline.checkpoints.retention import checkpoint_name


class KeepCheckpoints(SaveOnSigterm):
    """Saves every N steps or minutes, before and after validation, at the ends of epochs, at SIGTERM and at Ctrl-C.

    Checkpoints are called `step-{step:08d}.ckpt`; `last.ckpt` and `best.ckpt` are links. Each is written aside and
    renamed. What a killed attempt left is cleared away when the next one begins.

    Args:
        every_n_steps: optimizer steps between checkpoints; 0: not by steps.
        every_minutes: minutes between checkpoints; 0: not by minutes.
        keep_newest: how many of the newest are kept.
        keep_best: how many of the best are kept besides.
        monitor: the metric that says which are the best; those that were not validated are not among them.
        monitor_mode: whether more (`max`) or less (`min`) of it is better.
        dirpath: the folder; null: `checkpoints` in the trainer's `default_root_dir`.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(
        self,
        every_n_steps: int = 0,
        every_minutes: float = 15.0,
        keep_newest: int = 2,
        keep_best: int = 1,
        monitor: str = "val/top1",
        monitor_mode: Literal["max", "min"] = "max",
        dirpath: str | None = None,
    ) -> None:
        for name, value, least in (
            ("every_n_steps", every_n_steps, 0),
            ("every_minutes", every_minutes, 0),
            ("keep_newest", keep_newest, 1),
            ("keep_best", keep_best, 0),
        ):
            if value < least:
                raise ValueError(f"checkpoints.{name}={value}: must be at least {least}")
        super().__init__(dirpath or "")
        self._every_n_steps = every_n_steps
        self._every_s = 60 * every_minutes
        self._monitor = monitor
        self._settings = (keep_newest, keep_best, monitor_mode)
        self._clock = LateAgreement()
        self._saved_step = self._validated_step = -1

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Where the run's folder is."""
        self.dirpath = self.dirpath or str(Path(trainer.default_root_dir) / CHECKPOINTS)
        self._folder = CheckpointFolder(Path(self.dirpath), *self._settings)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Clears away what a killed attempt left."""
        super().on_train_start(trainer, pl_module)
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        if trainer.is_global_zero:
            removed = self._folder.begin(trainer.global_step)
            if removed:
                rank_zero_info(f"{self.dirpath}: removed {removed} files that an attempt before left")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves where it is due; an epoch's last step is left to the epoch's end, unless it is validated first."""
        stepped = trainer.global_step != self._step
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if not stepped:
            return
        due = bool(self._every_n_steps) and trainer.global_step % self._every_n_steps == 0
        if self._every_s:
            due |= self._clock.any_rank(trainer, time.monotonic() - self._saved_at >= self._every_s)
        # A checkpoint from the end of an epoch says that the epoch is done, which is not so where the run ends earlier.
        ends = trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
        if validates_next(trainer) or ((due or ends) and not trainer.is_last_batch):
            self.save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves with the score, in the middle of an epoch; at its end `on_train_epoch_end` does."""
        if not trainer.sanity_checking:
            self._validated_step = trainer.global_step
            if not trainer.is_last_batch:
                self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves at the end of a whole epoch, behind its validation."""
        if not trainer.is_last_batch:
            return
        if trainer.global_step > self._saved_step or self._validated_step == trainer.global_step:
            self.save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves no collective open."""
        self._clock.finish()
        super().on_train_end(trainer, pl_module)

    def save(self, trainer: pl.Trainer) -> None:
        """Saves and clears away; a collective."""
        path = Path(self.dirpath) / checkpoint_name(trainer.global_step)
        trainer.save_checkpoint(path, weights_only=False)
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()
        if trainer.is_global_zero:
            score = None
            if self._validated_step == trainer.global_step and self._monitor in trainer.callback_metrics:
                score = float(trainer.callback_metrics[self._monitor])
            self._folder.add(path, score)
