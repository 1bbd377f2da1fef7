"""KeepCheckpoints: the checkpoints that every `fit` keeps, unless its config has another callback for them."""

import time
from typing import Any, NoReturn

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.utilities import rank_zero_info

from lightning_modules.tasks.lightning_internals import validates_next
from pipeline.checkpoints.checkpoint_io import StoreCheckpointIO
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_store import CheckpointStore
from pipeline.checkpoints.preemption import LateAgreement, Preempted, PreemptionNotice


class LastCheckpointError(OSError):
    """Training is done, and its last checkpoint cannot be written."""


class KeepCheckpoints(Checkpoint):
    """Saves every N steps or minutes, before and after validation, at the ends of epochs, at SIGTERM and at Ctrl-C.

    All ranks take part; rank 0 writes. A checkpoint that cannot be written costs a line, and training goes on: the next
    may go well, and until then those that are there stay. Only the last one of a run must be written.

    A subclass of Lightning's `Checkpoint`, so that it comes behind all callbacks that change weights, such as EMA.

    Args:
        options: when checkpoints are saved.
        store: where they are written and kept.
        notice: that the run is to leave; default: by SIGTERM or Ctrl-C.
        on_leaving_only: saves at SIGTERM and Ctrl-C alone, beside Lightning's own callback for checkpoints.
    """

    def __init__(
        self,
        options: CheckpointOptions,
        store: CheckpointStore,
        notice: PreemptionNotice | None = None,
        on_leaving_only: bool = False,
    ) -> None:
        self.store = store
        self.failure: OSError | None = None
        self._options = options
        self._notice = notice or PreemptionNotice()
        self._on_leaving_only = on_leaving_only
        self._clock = LateAgreement()
        self._step = 0  # the last optimizer step that was looked at
        self._saved_step = self._validated_step = -1
        self._saved_at = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Clears away what a killed attempt left; behind Lightning's own registration, the signals are ours."""
        self._notice.listen(interrupts=True)
        count_next_epoch(trainer)
        self._step = self._saved_step = trainer.global_step
        self._saved_at = time.monotonic()
        if trainer.is_global_zero:
            removed = self.store.begin(trainer.global_step)
            if removed:
                rank_zero_info(f"removed what an earlier attempt left: {', '.join(removed)}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves and leaves after an optimizer step; not between those batches whose gradients are gathered."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        leaves = self._notice.agreed(trainer)
        if leaves or (not self._on_leaving_only and self._is_due(trainer)):
            self.save(trainer)
        if leaves:
            self._clock.finish()
            self.leave(trainer)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        """Whether to save here; an epoch's last step is left to the epoch's end, unless it is validated first."""
        options = self._options
        due = options.every_n_steps > 0 and trainer.global_step % options.every_n_steps == 0
        if options.every_minutes:
            due |= self._clock.any_rank(trainer, time.monotonic() - self._saved_at >= 60 * options.every_minutes)
        # A checkpoint from the end of an epoch says that the epoch is done, which is not so where the run ends earlier.
        ends = trainer.should_stop or 0 < trainer.max_steps <= trainer.global_step
        return validates_next(trainer) or ((due or ends) and not trainer.is_last_batch)

    def leave(self, trainer: pl.Trainer) -> NoReturn:
        """Ends the run, on all ranks; called once the checkpoint is saved."""
        raise Preempted(trainer, self._notice.interrupted)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves with what was measured, in the middle of an epoch; at its end `on_train_epoch_end` does."""
        if not trainer.sanity_checking:
            self._validated_step = trainer.global_step
            if not trainer.is_last_batch and not self._on_leaving_only:
                self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves at the end of a whole epoch, behind its validation."""
        new = trainer.global_step > self._saved_step or self._validated_step == trainer.global_step
        if trainer.is_last_batch and new and not self._on_leaving_only:
            self.save(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leaves no collective open; the last checkpoint must be there.

        Raises:
            LastCheckpointError: on rank 0: it could not be written.
        """
        self._clock.finish()
        self._notice.close()
        if self.failure is not None:
            raise LastCheckpointError(f"training is done, but its last checkpoint cannot be written: {self.failure}")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """The signals end the process again."""
        self._notice.close(failed=True)

    def save(self, trainer: pl.Trainer) -> None:
        """Saves and clears away; a collective: strategies may gather. Rank 0 writes."""
        self._saved_step = trainer.global_step
        writer = StoreCheckpointIO(self.store, trainer.global_step, self._metrics(trainer))
        before = trainer.strategy.checkpoint_io
        trainer.strategy.checkpoint_io = writer
        try:
            trainer.save_checkpoint("", weights_only=False)  # the store knows the path
        finally:
            trainer.strategy.checkpoint_io = before
        self.failure = writer.failure
        self._saved_at = time.monotonic()

    def _metrics(self, trainer: pl.Trainer) -> dict[str, Any]:
        """What was logged last; the metrics of a validation only with the weights that it measured."""
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if self._validated_step != trainer.global_step:
            monitor = self._options.monitor
            stage = monitor.partition("/")[0] + "/"
            logged = {name: value for name, value in logged.items() if name != monitor and not name.startswith(stage)}
        return {**logged, "epoch": trainer.current_epoch, "step": trainer.global_step}


def count_next_epoch(trainer: pl.Trainer) -> None:
    """Has Lightning count the epoch that begins where a run goes on from an epoch's last step.

    A checkpoint from before the validation at the end of an epoch is taken up in the next epoch, whose beginning
    Lightning 2.6 does not count. It would take a checkpoint from within that epoch for one from its end, and lose the
    last optimizer step where gradients are accumulated.
    """
    loop = trainer.fit_loop
    progress: Any = loop.epoch_progress.current
    if loop.restarted_mid_epoch and progress.processed == progress.ready:
        loop.reset_restart_stage()
