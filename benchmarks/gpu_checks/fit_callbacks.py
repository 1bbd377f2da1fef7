"""Callbacks that a `fit` is measured with; each writes what it found to a JSON file."""

import json
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from benchmarks.gpu_checks.host_waits import HostWaits


class StepClock(pl.Callback):
    """Clips/s of the last steps of a run of `max_steps`, with the device waited for before and after them alone.

    Args:
        path: file for `clips_per_s`, `step_ms` and `steps`.
        skipped: steps before the first that counts: cuDNN's benchmark, compilation, and batches loaded meanwhile.
    """

    def __init__(self, path: str, skipped: int) -> None:
        self._path, self._skipped = Path(path), skipped
        self._steps = self._clips = 0
        self._began = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Starts the clock."""
        if self._steps == self._skipped:
            _wait(trainer)
            self._began = time.perf_counter()
        self._steps += 1
        if self._steps > self._skipped:
            self._clips += len(batch.clips)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops it after the last step, before checkpoints are written."""
        if trainer.global_step == trainer.max_steps:
            _wait(trainer)
            seconds, steps = time.perf_counter() - self._began, self._steps - self._skipped
            measured = {"clips_per_s": self._clips / seconds, "step_ms": 1000 * seconds / steps, "steps": steps}
            self._path.write_text(json.dumps(measured), encoding="utf-8")


class HostWaitCount(pl.Callback):
    """Waits of the host for the device, a step, by place, from the start of one step to that of a later one.

    Args:
        path: file for the numbers.
        first: steps before; the first ones wait for cuDNN's benchmark and the like.
        steps: steps that are looked at; between two logged steps, as logging waits by its nature.
    """

    def __init__(self, path: str, first: int = 5, steps: int = 10) -> None:
        self._path, self._first, self._steps = Path(path), first, steps
        self._begun = 0
        self._waits = HostWaits()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Starts counting, or ends it."""
        if self._begun == self._first:
            self._waits.__enter__()
        elif self._begun == self._first + self._steps:
            self._waits.__exit__(None, None, None)
            a_step = {place: count / self._steps for place, count in self._waits.places.most_common()}
            self._path.write_text(json.dumps(a_step), encoding="utf-8")
        self._begun += 1


def _wait(trainer: pl.Trainer) -> None:
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize()
