"""HeartbeatCallback: reports the progress of a rank in training, validation, test and prediction."""

from typing import Any

import pytorch_lightning as pl

from jobs.training.heartbeat import HeartbeatSender
from pipeline.processes.rank_exit import drop_ddp_wrapper


class HeartbeatCallback(pl.Callback):
    """Counts the phases that this rank enters, for the watchdog.

    Args:
        sender: The heartbeat sender of this process.
    """

    def __init__(self, sender: HeartbeatSender) -> None:
        self.sender = sender

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Count the start of a step, when its batch has been loaded."""
        self.sender.enter_phase(f"step {trainer.global_step + 1}, forward")

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Any) -> None:
        """Count the start of the backward pass, in which ranks wait for each other's gradients."""
        self.sender.enter_phase(f"step {trainer.global_step + 1}, backward")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the end of a step; from now on there is progress for a checkpoint to save."""
        self.sender.has_trained = True
        self.sender.enter_phase(f"after step {trainer.global_step}, waiting for data")

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Count a batch of validation."""
        self.sender.enter_phase(f"validation after step {trainer.global_step}")

    def on_test_batch_end(self, *_: Any) -> None:
        """Count a batch of the test."""
        self.sender.enter_phase("test")

    def on_predict_batch_end(self, *_: Any) -> None:
        """Count a batch of the prediction."""
        self.sender.enter_phase("predict")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Remove the DDP wrapper, which would get in the way of an orderly exit."""
        drop_ddp_wrapper(trainer)
