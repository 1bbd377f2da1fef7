"""ReportCheckpoints: Lightning's checkpoints, handed to Ray Train, which keeps them and restarts from the newest."""

import gc
import math
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import ray.train

from jobs.results import CHECKPOINT_FILE, SCORE

training_started = threading.Event()  # set at this process's first training step


class ReportCheckpoints(pl.Callback):
    """Reports a full checkpoint every N optimizer steps and at the ends of epochs.

    All ranks take part: saving and reporting are collective. Rank 0's file goes to a temporary folder, and from there
    to `{storage_path}/{name}/checkpoint_<time>/`. It counts once Ray's record of checkpoints, written last, names it.

    Args:
        every_n_steps: optimizer steps between checkpoints within an epoch; 0: none but at the ends of epochs.
        monitor: a validation metric, by which Ray Train tells which checkpoints to keep. One that was not validated
            ranks below all that were.
        monitor_mode: whether more (`max`) or less (`min`) of it is better.
    """

    def __init__(
        self, every_n_steps: int = 1000, monitor: str = "val/top1", monitor_mode: Literal["max", "min"] = "max"
    ) -> None:
        self.every_n_steps = every_n_steps
        self.monitor = monitor
        self.sign = 1.0 if monitor_mode == "max" else -1.0
        self._reported_step = -1
        self._validated_step = -1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A resumed run does not report the checkpoint that it came from again."""
        self._reported_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Reports in the middle of an epoch; its last step is left to `on_train_epoch_end`."""
        training_started.set()
        due = self.every_n_steps and trainer.global_step % self.every_n_steps == 0
        if due and trainer.global_step > self._reported_step and not trainer.is_last_batch:
            self._report(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes for which weights the validation metrics hold."""
        if not trainer.sanity_checking:
            self._validated_step = trainer.global_step

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reports at the end of an epoch, behind its validation."""
        if trainer.global_step > self._reported_step:
            self._report(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Drops the DDP wrapper while the process group is still there: after it, gloo aborts one exit in ten."""
        trainer.strategy.model = None
        gc.collect()

    def _report(self, trainer: pl.Trainer) -> None:
        self._reported_step = trainer.global_step
        metrics = self._metrics(trainer)
        with tempfile.TemporaryDirectory(prefix="checkpoint-") as folder:
            trainer.save_checkpoint(Path(folder) / CHECKPOINT_FILE, weights_only=False)  # all ranks; rank 0 writes
            checkpoint = ray.train.Checkpoint.from_directory(folder) if trainer.is_global_zero else None
            ray.train.report(metrics, checkpoint=checkpoint)  # returns when it is in the storage
        if trainer.is_global_zero:
            shown = (f"{name} {value:.4g}" for name, value in metrics.items() if name != SCORE)
            print(f"checkpoint reported: {', '.join(shown)}", flush=True)

    def _metrics(self, trainer: pl.Trainer) -> dict[str, Any]:
        """What was logged last; the metrics of a validation only with the weights that it measured."""
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self._validated_step != trainer.global_step:
            stage = self.monitor.partition("/")[0] + "/"
            logged = {name: value for name, value in logged.items() if not name.startswith(stage)}
        score = self.sign * logged.get(self.monitor, math.nan)
        score = score if math.isfinite(score) else -sys.float_info.max  # Ray's JSON has neither NaN nor infinity
        return {**logged, SCORE: score, "epoch": trainer.current_epoch, "step": trainer.global_step}
