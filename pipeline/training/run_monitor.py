"""RunMonitor: measures throughput, loading and memory of a run over all ranks and restarts, for all its loggers."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info

from datamodules.datamodule import ShardedVideoDataModule
from lightning_modules.tasks.lightning_internals import logged_step
from pipeline.processes.rank_exit import drop_ddp_wrapper
from pipeline.training.csv_logger import MetricsCSVLogger
from pipeline.training.loader_bottleneck import StepTimer, TimeBreakdown, report_bottleneck
from pipeline.training.run_folder import move_old_run
from pipeline.training.wandb_run import log_configuration, print_sync_command

_GIB = 2**30


class RunMonitor(pl.Callback):
    """Callback that measures a run and logs to all loggers, every `log_every_n_steps` and at the ends of epochs.

    Then the progress bar shows the loss, too.

    samples: videos that all ranks have consumed, over all epochs. seconds: training time of all attempts. attempt:
    number of this start of the run, from 1. lr, and lr/x10 for layers with ten times the learning rate. clips_per_s:
    sum over ranks. data_wait: share of time spent waiting for the next batch, mean over ranks. load_ms: time for a
    data loader worker to read, decode and crop a video. transfer_ms: time to transform the pixels of a batch on the
    device, and to move it there unless the loader has moved it. skipped, quarantined: videos of all ranks since the run
    began. gpu_memory_gib: maximum over ranks.

    Args:
        owns_checkpoints: whether to move the checkpoints in the run's folder away when a new run begins there.

    Attributes:
        run_id: the id of the run, the same in all its attempts.
        attempt: number of this attempt, from 1.
    """

    def __init__(self, owns_checkpoints: bool = True) -> None:
        self._owns_checkpoints = owns_checkpoints
        self.run_id = ""
        self.attempt = 1
        self._configuration: Mapping[str, Any] = {}
        self._resumes = False
        self._seconds = 0.0
        self._totals = {"skipped": 0, "quarantined": 0}
        self._step_timer, self._is_timed = StepTimer(), False
        self._time_breakdown = TimeBreakdown()  # without the first batch, which waits for workers to start
        self._first_batch: tuple[float, float, float] | None = None
        self._began = 0.0
        self._training_times: tuple[float, float] = (
            0.0,
            0.0,
        )  # wait and transfer seconds of training before a validation
        self._reset_interval()

    def identify(self, run_id: str, configuration: Mapping[str, Any], resumes: bool) -> None:
        """Sets the run's id, the configuration to log to wandb, and whether the run resumes; before it begins."""
        self.run_id, self._configuration, self._resumes = run_id, configuration, resumes

    @property
    def began(self) -> bool:
        """Whether training has begun in this process."""
        return self._began > 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Moves an earlier run's files away if this run is new, and finds the Trainer's `StepTimer`.

        With another profiler, data_wait and transfer_ms are not logged.
        """
        if stage != "fit":
            return
        profiler = vars(trainer)["profiler"]  # undeclared in the Trainer
        if isinstance(profiler, StepTimer):
            self._step_timer, self._is_timed = profiler, True
        if trainer.is_global_zero:
            if not self._resumes and not getattr(trainer, "fast_dev_run", False):
                destination = move_old_run(Path(trainer.default_root_dir), self._owns_checkpoints)
                if destination is not None:
                    rank_zero_info(f"{trainer.default_root_dir} held another run; what it left is in {destination} now")
            log_configuration(trainer.loggers, self._configuration)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the measurements and opens metrics.csv; the checkpoint has been loaded by now."""
        self._began = time.monotonic()
        self._time_breakdown, self._first_batch = TimeBreakdown(), None
        self._logged_step = trainer.global_step
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSVLogger):
                logger.begin(trainer)
        self._reset_interval()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restarts the clock, so that saving and validation since the last batch do not count."""
        self._interval_start = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Sets the times of training aside before validation adds to the timer."""
        wait, transfer = self._step_timer.take()
        self._training_times = (self._training_times[0] + wait, self._training_times[1] + transfer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Discards the times of validation and restarts the clock."""
        self._step_timer.take()
        self._interval_start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts a batch, and logs if due."""
        now = time.perf_counter()
        self._elapsed += now - self._interval_start
        self._interval_start = now
        self._batches += 1
        self._clips += len(getattr(batch, "clips", ()))
        self._videos += len(getattr(batch, "keys", ()) if hasattr(batch, "clips") else ())
        self._load += getattr(batch, "load_seconds", 0.0)
        self._left_out[0] += getattr(batch, "num_skipped", 0)
        self._left_out[1] += getattr(batch, "num_quarantined", 0)
        if self._first_batch is None:
            self._first_batch = (self._elapsed, self._step_timer.wait_s, self._load)
            self._time_breakdown = self._time_breakdown.plus(*(-seconds for seconds in self._first_batch))
        every: int = vars(trainer)["log_every_n_steps"]  # undeclared in the Trainer
        due = trainer.global_step % every == 0 or trainer.is_last_batch
        if due and trainer.global_step > self._logged_step:
            self._logged_step = trainer.global_step
            self._log(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reports the bottleneck and what to change, and how to upload an offline wandb run."""
        if self._time_breakdown.elapsed > 0 and self._is_timed:
            rank_zero_info(report_bottleneck(self._time_breakdown, *_loader_settings(trainer)))
        print_sync_command(trainer.loggers)

    def _log(self, trainer: pl.Trainer) -> None:
        """Gathers the measurements of all ranks, in a collective, and logs them on rank 0."""
        measured = self._measure_interval(trainer)
        if "train/loss" in trainer.callback_metrics:  # `prog_bar` would wait for it after every batch
            trainer.progress_bar_metrics["train/loss"] = float(trainer.callback_metrics["train/loss"])
        samples_seen = getattr(getattr(trainer, "datamodule", None), "samples_seen", None)
        if samples_seen is not None:
            progress: Any = trainer.fit_loop.epoch_loop.batch_progress.current
            measured["samples"] = samples_seen(progress.processed)
        measured |= {"epoch": trainer.current_epoch, "seconds": self.seconds, "attempt": self.attempt}
        measured |= learning_rates(trainer.optimizers)
        for logger in trainer.loggers:
            logger.log_metrics(measured, step=logged_step(trainer))

    def _measure_interval(self, trainer: pl.Trainer) -> dict[str, float]:
        wait, transfer = (
            taken + kept for taken, kept in zip(self._step_timer.take(), self._training_times, strict=True)
        )
        device = trainer.strategy.root_device
        memory = torch.cuda.max_memory_allocated(device) / _GIB if device.type == "cuda" else 0.0
        own = [self._clips, self._elapsed, wait, self._load, self._videos, transfer, self._batches, *self._left_out]
        packed = torch.tensor([*own, memory], dtype=torch.float32, device=device)
        ranks = trainer.strategy.all_gather(packed).reshape(-1, len(packed)).cpu()
        clips, elapsed, wait, load, videos, transfer, batches, skipped, quarantined, _ = ranks.sum(dim=0).tolist()
        self._time_breakdown = self._time_breakdown.plus(elapsed / len(ranks), wait / len(ranks), load / len(ranks))
        self._totals["skipped"] += int(skipped)
        self._totals["quarantined"] += int(quarantined)
        self._reset_interval()
        measured: dict[str, float] = dict(self._totals)
        if clips:
            measured["clips_per_s"] = clips / (elapsed / len(ranks))
        if videos:
            measured["load_ms"] = 1000 * load / videos
        if self._is_timed:
            measured |= {"data_wait": wait / elapsed, "transfer_ms": 1000 * transfer / batches}
        if device.type == "cuda":
            measured["gpu_memory_gib"] = ranks[:, -1].max().item()
        return measured

    def _reset_interval(self) -> None:
        """Resets the counters of the logging interval."""
        self._interval_start = time.perf_counter()
        self._elapsed = self._load = 0.0
        self._batches = self._clips = self._videos = 0
        self._left_out = [0, 0]
        self._training_times = (0.0, 0.0)

    @property
    def seconds(self) -> float:
        """Training time of all attempts, in seconds."""
        return self._seconds + (time.monotonic() - self._began if self._began else 0.0)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Drops the DDP wrapper, which would prevent an orderly exit."""
        if stage == "fit" and trainer.world_size > 1:
            drop_ddp_wrapper(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Returns the run's id, attempt, training time and video counts."""
        return {"run_id": self.run_id, "attempt": self.attempt, "seconds": self.seconds, **self._totals}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores training time and video counts, and increments the attempt."""
        self.attempt = state_dict["attempt"] + 1
        self._seconds = state_dict["seconds"]
        self._totals = {name: state_dict[name] for name in self._totals}


def _loader_settings(trainer: pl.Trainer) -> tuple[Mapping[str, Any], Mapping[str, Any], int]:
    """Returns the data module's hyperparameters, how its videos are stored, and the number of ranks per machine."""
    data = getattr(trainer, "datamodule", None)
    encode = data.index.manifest.encode if isinstance(data, ShardedVideoDataModule) else {}
    return getattr(data, "hparams", {}), encode, max(1, trainer.num_devices)


def learning_rates(optimizers: list[torch.optim.Optimizer]) -> dict[str, float]:
    """Learning rates of the next step: `lr` of the first group, `lr/xN` of groups with N times that rate."""
    rates: dict[str, float] = {}
    for number, optimizer in enumerate(optimizers):
        name = f"lr{number or ''}"
        first = optimizer.param_groups[0]
        for group in optimizer.param_groups:
            times = group.get("initial_lr", group["lr"]) / (first.get("initial_lr", first["lr"]) or 1.0)
            rates.setdefault(name if times == 1 or group is first else f"{name}/x{times:g}", float(group["lr"]))
    return rates
