"""HeartbeatCallback: the places that a rank passes in training, validation, test and prediction."""

from typing import Any

import pytorch_lightning as pl

from jobs.training.heartbeat import HeartbeatSender
from pipeline.processes.rank_exit import drop_ddp_wrapper


class HeartbeatCallback(pl.Callback):
    """Lets the watchdog know where this rank is.

    Args:
        sender: sends the heartbeats of this process.
    """

    def __init__(self, sender: HeartbeatSender) -> None:
        self.sender = sender

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """The batch has come."""
        self.sender.at(f"step {trainer.global_step + 1}, forward")

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Any) -> None:
        """From here to the optimizer's step ranks wait for each other's gradients."""
        self.sender.at(f"step {trainer.global_step + 1}, backward")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A step is done that a checkpoint could save."""
        self.sender.trains = True
        self.sender.at(f"after step {trainer.global_step}, waiting for data")

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """A batch of validation is done."""
        self.sender.at(f"validation after step {trainer.global_step}")

    def on_test_batch_end(self, *_: Any) -> None:
        """A batch of the test is done."""
        self.sender.at("test")

    def on_predict_batch_end(self, *_: Any) -> None:
        """A batch of the prediction is done."""
        self.sender.at("predict")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Lets go of what would be in the way of an exit in order."""
        drop_ddp_wrapper(trainer)
