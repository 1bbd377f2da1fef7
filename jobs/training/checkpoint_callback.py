"""CheckpointCallback: saves the checkpoints of a job, and ends all ranks at the same step at the driver's request."""

from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl

from jobs.storage.metrics_copy import MetricsCopy
from jobs.training.heartbeat import HeartbeatSender, gather_leave_reasons
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_store import CheckpointStore
from pipeline.checkpoints.preemption import PreemptionNotice
from pipeline.checkpoints.run_checkpoint import RunCheckpoint
from pipeline.processes.rank_exit import drop_ddp_wrapper


class RestartRequestedError(Exception):
    """Raised on all ranks at the same step, after a checkpoint was saved: the run continues in another attempt.

    Attributes:
        reason: The reason why the ranks leave.
        step: The number of optimizer steps done.
    """

    def __init__(self, reason: str, trainer: pl.Trainer) -> None:
        super().__init__(reason)
        self.reason = reason
        self.step = trainer.global_step
        self._trainer = trainer

    def drop_wrapper(self) -> None:
        """Remove the DDP wrapper, as `teardown` does after a fit; Lightning does not call it after an exception."""
        drop_ddp_wrapper(self._trainer)


class DriverNotice(PreemptionNotice):
    """Notice that the ranks must leave: SIGTERM to this process, or a request of the driver to all ranks.

    Args:
        sender: The heartbeat sender of this process, which receives both.
    """

    def __init__(self, sender: HeartbeatSender) -> None:
        super().__init__()
        self._sender = sender

    def install_handlers(self, interrupts: bool = False) -> bool:
        """Install no handler: `install_sigterm_handler` does so in the main thread; training runs in another one."""
        return False

    def poll(self) -> bool:
        """Whether this process has notice."""
        if self._sender.must_leave():
            self.request()
        return super().poll()


class CheckpointCallback(RunCheckpoint):
    """`RunCheckpoint` under Ray: the ranks leave when the driver requests it; metrics.csv is copied to the storage.

    Args:
        options: When checkpoints are saved.
        store: The store of the run's checkpoints.
        sender: The heartbeat sender of this process.
        metrics_copy: The copier of the run's metrics.csv.
    """

    def __init__(
        self, options: CheckpointOptions, store: CheckpointStore, sender: HeartbeatSender, metrics_copy: MetricsCopy
    ) -> None:
        super().__init__(options, store, DriverNotice(sender))
        self._sender = sender
        self._metrics_copy = metrics_copy
        self._is_copy_outdated = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Copy metrics.csv of earlier attempts to the node of rank 0."""
        if trainer.is_global_zero:
            self._metrics_copy.begin(Path(trainer.default_root_dir))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Copy metrics.csv after a checkpoint: by now all metrics of the earlier steps are logged."""
        if self._is_copy_outdated:
            self._copy_metrics(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """Save a checkpoint as `RunCheckpoint.save` does, and print a line to the job's log."""
        step = trainer.global_step
        self._sender.enter_phase(f"after step {step}, saving a checkpoint")
        if not trainer.is_global_zero:  # rank 0 enters this phase after writing
            self._sender.enter_phase(f"after step {step}, waiting for rank 0 to save a checkpoint")
        super().save(trainer)
        if trainer.is_global_zero:
            self._sender.enter_phase("")
        self._sender.phase = f"after step {step}, waiting for data"
        if trainer.is_global_zero and self.failure is None:
            self._copy_metrics(trainer)
            self._is_copy_outdated = True  # the row of this step is completed after this
            metrics = (f"{name} {value:.4g}" for name, value in self._metrics(trainer).items())
            print(f"checkpoint reported: {', '.join(metrics)}", flush=True)

    def leave(self, trainer: pl.Trainer) -> NoReturn:
        """End this attempt on all ranks.

        Raises:
            RestartRequestedError: always.
        """
        self._notice.restore_handlers()
        raise RestartRequestedError(gather_leave_reasons(self._sender.leave_reason, trainer.world_size), trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the complete metrics.csv, and check that the last checkpoint was saved."""
        self._copy_metrics(trainer)
        super().on_train_end(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Copy metrics.csv, whose last rows may explain the exception."""
        self._copy_metrics(trainer)
        super().on_exception(trainer, pl_module, exception)

    def _copy_metrics(self, trainer: pl.Trainer) -> None:
        self._is_copy_outdated = False
        if trainer.is_global_zero:
            self._metrics_copy.store()
