"""CheckpointCallback: when a job's checkpoints are saved, and how its ranks leave together."""

import gc
import math
import time
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

from jobs.storage.checkpoint_store import CheckpointStore
from jobs.storage.metrics_copy import MetricsCopy
from jobs.training import heartbeat
from pipeline.checkpoints.preemption import LateAgreement

# Of this process's run; set by the train worker before the Trainer starts.
store: CheckpointStore | None = None
metrics_copy: MetricsCopy | None = None


class RestartRequestedError(Exception):
    """Raised on all ranks, at the same step, after its checkpoint was saved: the run goes on in another attempt.

    Attributes:
        reason: Why.
        step: Optimizer steps done.
    """

    def __init__(self, reason: str, trainer: pl.Trainer) -> None:
        super().__init__(reason)
        self.reason = reason
        self.step = trainer.global_step
        self._trainer = trainer

    def drop_wrapper(self) -> None:
        """As `CheckpointCallback.teardown`, which Lightning does not call after an exception."""
        drop_ddp_wrapper(self._trainer)


def drop_ddp_wrapper(trainer: pl.Trainer) -> None:
    """While the process group is still there: after it, gloo aborts one exit in ten."""
    trainer.strategy.model = None
    gc.collect()


class LastCheckpointError(OSError):
    """Training is done, and its last checkpoint cannot be written."""


class CheckpointCallback(Checkpoint):
    """Saves a full checkpoint every N optimizer steps, every M minutes and at the ends of epochs.

    All ranks take part; rank 0 writes. One that cannot be written costs a line, and training goes on: the next may go
    well, and until then those that are there stay. Only the last one of a run must be written.

    Args:
        every_n_steps: Optimizer steps between checkpoints within an epoch; 0: none for their number.
        monitor: A validation metric, by which the best are told. It is noted with the weights that it measured only.
        monitor_mode: Whether more (`max`) or less (`min`) of it is better.
        every_minutes: Minutes between checkpoints within an epoch, by rank 0's clock; 0: none for the time.
    """

    def __init__(
        self,
        every_n_steps: int = 1000,
        monitor: str = "val/top1",
        monitor_mode: Literal["max", "min"] = "max",
        every_minutes: float = 0.0,
    ) -> None:
        self.every_n_steps = every_n_steps
        self.every_minutes = every_minutes
        self.monitor = monitor
        self.monitor_mode = monitor_mode
        self._saved_step = -1
        self._saved_at = 0.0
        self._step = 0  # of the last optimizer step that was looked at
        self._validated_step = -1
        self._failure: OSError | None = None
        self._to_leave = LateAgreement()
        self._to_save = LateAgreement()
        self._pulse = heartbeat.current or heartbeat.HeartbeatSender(0, 1, "")
        self._copy_is_old = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Brings metrics.csv to a node that does not have it."""
        if metrics_copy is not None and trainer.is_global_zero:
            metrics_copy.begin(Path(trainer.default_root_dir))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """A resumed run does not save the checkpoint that it came from again."""
        self._saved_step = self._step = trainer.global_step
        self._saved_at = time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """For the watch: the batch has come. By now all is logged that belongs to the steps before."""
        if self._copy_is_old:
            self._copy_metrics(trainer)
        self._pulse.at(f"step {trainer.global_step + 1}, forward")

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Any) -> None:
        """For the watch: from here to the optimizer's step ranks wait for each other's gradients."""
        self._pulse.at(f"step {trainer.global_step + 1}, backward")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves in the middle of an epoch; at its last step that is left to `on_train_epoch_end`."""
        self._pulse.trains = True
        self._pulse.at(f"after step {trainer.global_step}, waiting for data")
        if trainer.global_step == self._step:
            return  # gradients are being gathered
        self._step = trainer.global_step
        leave = self._to_leave.any_rank(trainer, self._pulse.wants_to_leave())
        due = self.every_n_steps > 0 and trainer.global_step % self.every_n_steps == 0
        if self.every_minutes > 0:
            due |= self._to_save.any_rank(trainer, trainer.is_global_zero and self._is_time())
        # A checkpoint from the end of an epoch says that the epoch is done, which is not so where the run ends earlier.
        due |= trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
        if trainer.is_last_batch:
            return
        if (leave or due) and trainer.global_step > self._saved_step:
            self._save(trainer)
        if leave:
            self._finish_agreements()
            raise RestartRequestedError(heartbeat.all_stop_reasons(self._pulse.leave, trainer.world_size), trainer)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """For the watch."""
        self._pulse.at(f"validation after step {trainer.global_step}")

    def on_test_batch_end(self, *_: Any) -> None:
        """Likewise."""
        self._pulse.at("test")

    def on_predict_batch_end(self, *_: Any) -> None:
        """Likewise."""
        self._pulse.at("predict")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Notes for which weights the validation metrics hold."""
        if not trainer.sanity_checking:
            self._validated_step = trainer.global_step

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves at the end of a whole epoch, behind its validation."""
        if trainer.is_last_batch and trainer.global_step > self._saved_step:
            self._save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The last checkpoint must be there, and metrics.csv too, to its last row.

        Raises:
            LastCheckpointError: On rank 0: it could not be written.
        """
        self._finish_agreements()
        self._copy_metrics(trainer)
        if self._failure is not None:
            raise LastCheckpointError(f"training is done, but its last checkpoint cannot be written: {self._failure}")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """What the last rows say of it."""
        self._copy_metrics(trainer)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Drops what would be in the way of an exit in order."""
        drop_ddp_wrapper(trainer)

    def _finish_agreements(self) -> None:
        self._to_leave.finish()
        self._to_save.finish()

    def _is_time(self) -> bool:
        return time.monotonic() - self._saved_at >= 60 * self.every_minutes

    def _save(self, trainer: pl.Trainer) -> None:
        self._saved_step = trainer.global_step
        self._pulse.at(f"after step {trainer.global_step}, saving a checkpoint")
        if store is None:
            return
        metrics, before = self._metrics(trainer), trainer.strategy.checkpoint_io
        writer = _Writer(store, trainer.global_step, metrics)
        if not trainer.is_global_zero:  # rank 0 passes this place when it has written
            self._pulse.at(f"after step {trainer.global_step}, waiting for rank 0 to save a checkpoint")
        trainer.strategy.checkpoint_io = writer
        try:
            trainer.save_checkpoint("", weights_only=False)  # all ranks: strategies may gather; rank 0 writes
        finally:
            trainer.strategy.checkpoint_io = before
        if trainer.is_global_zero:
            self._pulse.at("")
        self._pulse.place = f"after step {trainer.global_step}, waiting for data"
        self._failure = writer.failure
        self._saved_at = time.monotonic()
        if trainer.is_global_zero and writer.failure is None:
            self._copy_metrics(trainer)
            self._copy_is_old = True  # the row of this step is completed after this
            shown = (f"{name} {value:.4g}" for name, value in metrics.items())
            print(f"checkpoint reported: {', '.join(shown)}", flush=True)

    def _copy_metrics(self, trainer: pl.Trainer) -> None:
        self._copy_is_old = False
        if metrics_copy is not None and trainer.is_global_zero:
            metrics_copy.store()

    def _metrics(self, trainer: pl.Trainer) -> dict[str, Any]:
        """What was logged last; the metrics of a validation only with the weights that it measured."""
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self._validated_step != trainer.global_step:
            stage = self.monitor.partition("/")[0] + "/"
            logged = {name: value for name, value in logged.items() if not name.startswith(stage)}
        finite = {name: value for name, value in logged.items() if math.isfinite(value)}
        return {**finite, "epoch": trainer.current_epoch, "step": trainer.global_step}


class _Writer(TorchCheckpointIO):
    """Writes to the store what Lightning has gathered. An error must not leave rank 0's barrier to the others."""

    def __init__(self, target: CheckpointStore, step: int, metrics: dict[str, Any]) -> None:
        super().__init__()
        self._store = target
        self._step = step
        self._metrics = metrics
        self.failure: OSError | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Called on rank 0."""
        import torch

        def write(target: Path) -> None:
            try:
                torch.save(checkpoint, target)
            except RuntimeError as error:  # torch's own writer says so of a disk that is full
                raise OSError(str(error).splitlines()[0]) from error

        try:
            self._store.save(write, self._step, self._metrics)
        except OSError as error:
            self.failure = error
            print(
                f"warning: the checkpoint of step {self._step} cannot be written ({error}); training goes on, the "
                "newest one that was stays, and the next is tried when it is due",
                flush=True,
            )
