"""TrialCallback: reports the validations of a trial to its search, and ends training if the search stops the trial."""

import math
from typing import Any

import pytorch_lightning as pl
import ray

from jobs.training.trial_board import TrialValidation
from jobs.training.worker import RefusedInputError


class TrialCallback(pl.Callback):
    """Waits for the search's decision at the end of each epoch that was validated; all ranks get the same one.

    A trial that is stopped ends as a training that is done: its checkpoints are published.

    Args:
        number: The number of the trial.
        metric: The metric that the search ranks by.
        board: Handle of the `jobs.training.trial_board.TrialBoard`.
    """

    def __init__(self, number: int, metric: str, board: Any) -> None:
        self._number = number
        self._metric = metric
        self._board = board
        self._validated_step = -1

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that the present weights were validated."""
        if not trainer.sanity_checking:
            self._validated_step = trainer.global_step

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch's validation, and take over the decision.

        Raises:
            RefusedInputError: The metric of the search was not logged.
        """
        if self._validated_step != trainer.global_step:
            return
        is_logged = trainer.strategy.broadcast(self._metric in trainer.callback_metrics)
        if not is_logged:
            logged = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            raise RefusedInputError(f"metric={self._metric}: the fit does not log it; it logs {logged}")
        stop = False
        if trainer.is_global_zero:
            stop = ray.get(self._board.report.remote(self._number, _validation(trainer)))
        if trainer.strategy.broadcast(stop):
            trainer.should_stop = True


def _validation(trainer: pl.Trainer) -> TrialValidation:
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    finite = {name: value for name, value in logged.items() if math.isfinite(value)}
    epoch, max_epochs = trainer.current_epoch + 1, trainer.max_epochs or -1
    is_last = 0 < max_epochs <= epoch or 0 < trainer.max_steps <= trainer.global_step
    return TrialValidation(epoch, trainer.global_step, finite, is_last)
