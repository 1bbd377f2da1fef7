"""One record of a run, for all its ranks and all its restarts: what it does, measured, for all its loggers."""

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
from pipeline.training.csv_logger import MetricsCSV
from pipeline.training.loader_bottleneck import StepTimer, TimeBreakdown, report_bottleneck
from pipeline.training.run_folder import move_old_run
from pipeline.training.wandb_run import log_configuration, say_how_to_send

_GIB = 2**30


class RunMonitor(pl.Callback):
    """Measures what a run does and logs it, every `log_every_n_steps` and at the ends of epochs, to all loggers.

    samples: videos of the plan that all ranks have had, of all epochs. seconds: of training, of all attempts. attempt:
    which continuation this is, from 1. lr, and lr/x10 for layers with ten times the rate. clips_per_s: of all ranks.
    data_wait: share of the time in which a rank waited for its next batch, their mean. load_ms: what a video took its
    DataLoader worker: reading, decoding, cutting. transfer_ms: what a batch took to the device, with what is done to
    its pixels there. skipped, quarantined: videos, of all ranks, since the run began. gpu_memory_gib: the highest of
    any rank.

    Args:
        owns_checkpoints: whether the checkpoints in the run's folder are this process's to move when a new run begins.

    Attributes:
        run_id: of the run, the same in all its attempts.
        attempt: which this is.
    """

    def __init__(self, owns_checkpoints: bool = True) -> None:
        self._owns_checkpoints = owns_checkpoints
        self.run_id = ""
        self.attempt = 1
        self._configuration: Mapping[str, Any] = {}
        self._resumes = False
        self._seconds = 0.0
        self._totals = {"skipped": 0, "quarantined": 0}
        self._times, self._is_timed = StepTimer(), False
        self._spent = TimeBreakdown()  # but for the first batch, which waits for workers to start
        self._first: tuple[float, float, float] | None = None
        self._began = 0.0
        self._kept: tuple[float, float] = (0.0, 0.0)  # seconds that validation has interrupted
        self._restart()

    def identify(self, run_id: str, configuration: Mapping[str, Any], resumes: bool) -> None:
        """Before the run begins: its id, the configuration, which goes to wandb, and whether it has a checkpoint."""
        self.run_id, self._configuration, self._resumes = run_id, configuration, resumes

    @property
    def began(self) -> bool:
        """Whether training has begun in this process."""
        return self._began > 0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Makes room in the folder for a new run, and takes the times from the Trainer's `StepTimer`.

        With another profiler, data_wait and transfer_ms stay empty.
        """
        if stage != "fit":
            return
        profiler = vars(trainer)["profiler"]  # undeclared in the Trainer
        if isinstance(profiler, StepTimer):
            self._times, self._is_timed = profiler, True
        if trainer.is_global_zero:
            if not self._resumes and not getattr(trainer, "fast_dev_run", False):
                place = move_old_run(Path(trainer.default_root_dir), self._owns_checkpoints)
                if place is not None:
                    rank_zero_info(f"{trainer.default_root_dir} held another run; what it left is in {place} now")
            log_configuration(trainer.loggers, self._configuration)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The checkpoint has been read by now."""
        self._began = time.monotonic()
        self._spent, self._first = TimeBreakdown(), None
        self._logged_step = trainer.global_step
        for logger in trainer.loggers:
            if isinstance(logger, MetricsCSV):
                logger.begin(trainer)
        self._restart()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saving and validating since the last batch are not counted."""
        self._mark = time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keeps the times of validation apart."""
        wait, transfer = self._times.take()
        self._kept = (self._kept[0] + wait, self._kept[1] + transfer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Goes on with those of training."""
        self._times.take()
        self._mark = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts a batch; logs where it is time to."""
        now = time.perf_counter()
        self._elapsed += now - self._mark
        self._mark = now
        self._batches += 1
        self._clips += len(getattr(batch, "clips", ()))
        self._videos += len(getattr(batch, "keys", ()) if hasattr(batch, "clips") else ())
        self._load += getattr(batch, "load_seconds", 0.0)
        self._left_out[0] += getattr(batch, "num_skipped", 0)
        self._left_out[1] += getattr(batch, "num_quarantined", 0)
        if self._first is None:
            self._first = (self._elapsed, self._times.wait_s, self._load)
            self._spent = self._spent.plus(*(-seconds for seconds in self._first))
        every: int = vars(trainer)["log_every_n_steps"]  # undeclared in the Trainer
        due = trainer.global_step % every == 0 or trainer.is_last_batch
        if due and trainer.global_step > self._logged_step:
            self._logged_step = trainer.global_step
            self._log(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Says which side was the bottleneck and what to change, and how an offline wandb run is sent."""
        if self._spent.elapsed > 0 and self._is_timed:
            rank_zero_info(report_bottleneck(self._spent, *_feed_of(trainer)))
        say_how_to_send(trainer.loggers)

    def _log(self, trainer: pl.Trainer) -> None:
        """A collective: all ranks' numbers together, in the loggers of the first."""
        measured = self._measured(trainer)
        samples_seen = getattr(getattr(trainer, "datamodule", None), "samples_seen", None)
        if samples_seen is not None:
            progress: Any = trainer.fit_loop.epoch_loop.batch_progress.current
            measured["samples"] = samples_seen(progress.processed)
        measured |= {"epoch": trainer.current_epoch, "seconds": self.seconds, "attempt": self.attempt}
        measured |= learning_rates(trainer.optimizers)
        for logger in trainer.loggers:
            logger.log_metrics(measured, step=logged_step(trainer))

    def _measured(self, trainer: pl.Trainer) -> dict[str, float]:
        wait, transfer = (taken + kept for taken, kept in zip(self._times.take(), self._kept, strict=True))
        device = trainer.strategy.root_device
        memory = torch.cuda.max_memory_allocated(device) / _GIB if device.type == "cuda" else 0.0
        mine = [self._clips, self._elapsed, wait, self._load, self._videos, transfer, self._batches, *self._left_out]
        both = torch.tensor([*mine, memory], dtype=torch.float32, device=device)
        ranks = trainer.strategy.all_gather(both).reshape(-1, len(both)).cpu()
        clips, elapsed, wait, load, videos, transfer, batches, skipped, quarantined, _ = ranks.sum(dim=0).tolist()
        self._spent = self._spent.plus(elapsed / len(ranks), wait / len(ranks), load / len(ranks))
        self._totals["skipped"] += int(skipped)
        self._totals["quarantined"] += int(quarantined)
        self._restart()
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

    def _restart(self) -> None:
        """Begins another span to measure."""
        self._mark = time.perf_counter()
        self._elapsed = self._load = 0.0
        self._batches = self._clips = self._videos = 0
        self._left_out = [0, 0]
        self._kept = (0.0, 0.0)

    @property
    def seconds(self) -> float:
        """Of training, of all attempts."""
        return self._seconds + (time.monotonic() - self._began if self._began else 0.0)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Lets go of what would be in the way of an exit in order."""
        if stage == "fit" and trainer.world_size > 1:
            drop_ddp_wrapper(trainer)

    def state_dict(self) -> dict[str, Any]:
        """What the next attempt takes over."""
        return {"run_id": self.run_id, "attempt": self.attempt, "seconds": self.seconds, **self._totals}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it over."""
        self.attempt = state_dict["attempt"] + 1
        self._seconds = state_dict["seconds"]
        self._totals = {name: state_dict[name] for name in self._totals}


def _feed_of(trainer: pl.Trainer) -> tuple[Mapping[str, Any], Mapping[str, Any], int]:
    """The data module's settings, how its videos are stored, and the ranks of this machine."""
    data = getattr(trainer, "datamodule", None)
    encode = data.index.manifest.encode if isinstance(data, ShardedVideoDataModule) else {}
    return getattr(data, "hparams", {}), encode, max(1, trainer.num_devices)


def learning_rates(optimizers: list[torch.optim.Optimizer]) -> dict[str, float]:
    """The rates of the next step: `lr` of the first group, and `lr/xN` of groups whose rate is N times that."""
    rates: dict[str, float] = {}
    for number, optimizer in enumerate(optimizers):
        name = f"lr{number or ''}"
        first = optimizer.param_groups[0]
        for group in optimizer.param_groups:
            times = group.get("initial_lr", group["lr"]) / (first.get("initial_lr", first["lr"]) or 1.0)
            rates.setdefault(name if times == 1 or group is first else f"{name}/x{times:g}", float(group["lr"]))
    return rates
