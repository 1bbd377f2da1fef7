"""MetricsCSVLogger: logger that writes metrics.csv (`pipeline.training.metrics_csv`), beside the config's loggers."""

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_info, rank_zero_only, rank_zero_warn

from pipeline.training.metrics_csv import METRICS_NAME, MetricsFile


class MetricsCSVLogger(Logger):
    """Logger that writes the logged metrics to metrics.csv; a file that cannot be written does not end the run.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = folder
        self._file: MetricsFile | None = None
        self._trainer: pl.Trainer | None = None

    @property
    def name(self) -> str:
        """Empty: metrics.csv is directly in the run's folder."""
        return ""

    @property
    def version(self) -> str:
        """Empty: metrics.csv is directly in the run's folder."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return self._folder

    def begin(self, trainer: pl.Trainer) -> None:
        """Opens the file and drops rows of steps after the one that the run starts from."""
        self._trainer = trainer
        if trainer.is_global_zero:
            path = Path(self._folder) / METRICS_NAME
            try:
                self._file = MetricsFile(path, after=trainer.global_step)
            except OSError as error:
                self._give_up(error)
                return
            if self._file.dropped:
                message = (
                    f"{path}: {self._file.dropped} rows of steps after {trainer.global_step} dropped; they come again"
                )
                rank_zero_info(message)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Adds metrics to the row of the trainer's global step; `step`, which Lightning counts from 0, is ignored."""
        if self._file is None or self._trainer is None:
            return
        try:
            self._file.add(
                self._trainer.global_step, {name: value for name, value in metrics.items() if name != "step"}
            )
        except OSError as error:
            self._give_up(error)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Does nothing: hyperparameters are in config.yaml."""

    def _give_up(self, error: OSError) -> None:
        self._file = None
        rank_zero_warn(f"{self._folder}/{METRICS_NAME} cannot be written ({error}); training goes on without it")
