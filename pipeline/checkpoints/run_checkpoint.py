"""RunCheckpoint: the default checkpoint callback of `fit`."""

import time
from contextlib import suppress
from typing import Any, NoReturn

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities import rank_zero_info

from lightning_modules.tasks.lightning_internals import stop_sigterm_broadcast, validates_next
from pipeline.checkpoints.checkpoint_io import StoreCheckpointIO
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_store import CheckpointStore
from pipeline.checkpoints.preemption import DelayedAnyReduce, PreemptionExit, PreemptionNotice


class LastCheckpointError(OSError):
    """Raised when the last checkpoint of a finished training cannot be written."""


class RunCheckpoint(Checkpoint):
    """Callback that saves every N steps or minutes, around validation, at epoch ends, and at SIGTERM and Ctrl-C.

    All ranks take part; rank 0 writes. If a checkpoint cannot be written, a warning is printed and training goes on
    with the existing checkpoints; only a failure of the last checkpoint of a run is an error.

    A subclass of Lightning's `Checkpoint`, so that it runs after all callbacks that change weights, such as EMA.

    Args:
        options: when checkpoints are saved.
        store: store that writes and keeps the checkpoints.
        notice: preemption notice of the run; by default one given by SIGTERM or Ctrl-C.
        on_preemption_only: save at preemption only, beside one of Lightning's own checkpoint callbacks.
    """

    def __init__(
        self,
        options: CheckpointOptions,
        store: CheckpointStore,
        notice: PreemptionNotice | None = None,
        on_preemption_only: bool = False,
    ) -> None:
        self.store = store
        self.failure: OSError | None = None
        self._options = options
        self._notice = notice or PreemptionNotice()
        self._on_preemption_only = on_preemption_only
        self._agreement = DelayedAnyReduce()
        self._step = 0  # the last optimizer step that was handled
        self._last_saved_step = self._validated_step = -1
        self._last_save = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Installs the signal handlers, after Lightning's own, and removes leftovers of a killed attempt."""
        self._notice.install_handlers(interrupts=True)
        stop_sigterm_broadcast(trainer)
        count_next_epoch(trainer)
        self._step = self._last_saved_step = trainer.global_step
        self._last_save = time.monotonic()
        if trainer.is_global_zero:
            removed = self.store.begin(trainer.global_step)
            if removed:
                rank_zero_info(f"removed what an earlier attempt left: {', '.join(removed)}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves if due, and stops the run if preempted, after an optimizer step; not while gradients accumulate."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        minutes = self._options.every_minutes
        is_overdue = minutes > 0 and time.monotonic() - self._last_save >= 60 * minutes
        is_preempted, is_overdue = self._agreement.any_rank(trainer, self._notice.poll(), is_overdue)
        if trainer.world_size > 1 and self._last_saved_step >= self._step - 1:
            is_overdue = False  # as of the previous step, before that checkpoint was saved
        if is_preempted or (not self._on_preemption_only and self._is_due(trainer, is_overdue)):
            self.save(trainer)
        if is_preempted:
            self._agreement.finish()
            self.leave(trainer)

    def _is_due(self, trainer: pl.Trainer, is_overdue: bool) -> bool:
        """Whether to save now; at an epoch's last step only before a validation, otherwise the epoch's end saves."""
        every = self._options.every_n_steps
        is_due = is_overdue or (every > 0 and trainer.global_step % every == 0)
        # A checkpoint of an epoch's end marks the epoch as done, which is wrong for a run that ends within the epoch.
        is_last_step = trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
        return validates_next(trainer) or ((is_due or is_last_step) and not trainer.is_last_batch)

    def leave(self, trainer: pl.Trainer) -> NoReturn:
        """Ends the run by raising `PreemptionExit`; called on all ranks after the checkpoint is saved."""
        raise PreemptionExit(trainer, self._notice.is_interrupted)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves with the validation's metrics in the middle of an epoch; at its end `on_train_epoch_end` saves."""
        if not trainer.sanity_checking:
            self._validated_step = trainer.global_step
            if not trainer.is_last_batch and not self._on_preemption_only:
                self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves at the end of a complete epoch, after its validation."""
        is_new = trainer.global_step > self._last_saved_step or self._validated_step == trainer.global_step
        if trainer.is_last_batch and is_new and not self._on_preemption_only:
            self.save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Completes pending collectives, restores the signal handlers, and tells where the checkpoints are.

        Raises:
            LastCheckpointError: on rank 0, if the last checkpoint could not be written.
        """
        self._agreement.finish()
        self._notice.restore_handlers()
        if self.failure is not None:
            raise LastCheckpointError(f"training is done, but its last checkpoint cannot be written: {self.failure}")
        if trainer.is_global_zero and self.store.storage.is_local and not self._on_preemption_only:
            with suppress(OSError):  # what was trained is saved
                rank_zero_info(self.store.describe_newest_and_best())

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Restores the signal handlers, without waiting for other ranks."""
        self._notice.restore_handlers()

    def save(self, trainer: pl.Trainer) -> None:
        """Saves a checkpoint and prunes old ones; a collective, because strategies may gather. Rank 0 writes."""
        self._last_saved_step = trainer.global_step
        writer = StoreCheckpointIO(self.store, trainer.global_step, self._metrics(trainer))
        previous_io = trainer.strategy.checkpoint_io
        trainer.strategy.checkpoint_io = writer
        try:
            trainer.save_checkpoint("", weights_only=False)  # the store chooses the path
        finally:
            trainer.strategy.checkpoint_io = previous_io
        self.failure = writer.failure
        self._last_save = time.monotonic()

    def _metrics(self, trainer: pl.Trainer) -> dict[str, Any]:
        """Returns the logged metrics; those of validation only if it measured the present weights."""
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self._validated_step != trainer.global_step:
            monitor = self._options.metric
            stage = monitor.partition("/")[0] + "/"
            logged = {name: value for name, value in logged.items() if name != monitor and not name.startswith(stage)}
        return {**logged, "epoch": trainer.current_epoch, "step": trainer.global_step}


def count_next_epoch(trainer: pl.Trainer) -> None:
    """Makes Lightning count the epoch that begins when a run resumes from the last step of an epoch.

    A run resumed from a checkpoint saved before the validation at an epoch's end starts in the next epoch, whose start
    Lightning 2.6 does not count. It would then take a checkpoint from within that epoch for one from its end, and lose
    the last optimizer step with gradient accumulation.
    """
    loop = trainer.fit_loop
    progress: Any = loop.epoch_progress.current
    if loop.restarted_mid_epoch and progress.processed == progress.ready:
        loop.reset_restart_stage()
