"""`OptimizationHooks`: what the Trainer asks a network about its optimizer."""

import pytorch_lightning as pl
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer

from lightning_modules.tasks.optimization import (
    OptimizationOptions,
    batch_scale,
    clip_gradients,
    make_optimizer_and_schedule,
    record_batch_scale,
)


class OptimizationHooks(pl.LightningModule):
    """Base class of `VideoNetwork`: optimizer, schedule and gradient clipping by its hyperparameters."""

    @property
    def optimization(self) -> OptimizationOptions:
        """The options of optimizer and schedule, by the present hyperparameters."""
        return OptimizationOptions.from_hyperparameters(self.hparams)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and a learning-rate schedule that is updated every step.

        Raises:
            ValueError: a schedule in a run without an end, no trainable parameters, or unknown layers.
        """
        return make_optimizer_and_schedule(self, self.optimization, self.trainer)

    def on_train_start(self) -> None:
        """Rescales the learning rate of a run resumed with another batch size, before its first step."""
        for optimizer in self.trainer.optimizers:
            record_batch_scale(optimizer, batch_scale(self.trainer, self.optimization.scale_learning_rate_from))

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips gradients, also those of a fused optimizer in bf16."""
        clip_gradients(self.trainer, optimizer, gradient_clip_val, gradient_clip_algorithm)
