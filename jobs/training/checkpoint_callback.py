"""CheckpointCallback: the checkpoints of a job, where its ranks leave together when the driver asks them to."""

from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl

from jobs.storage.metrics_copy import MetricsCopy
from jobs.training.heartbeat import HeartbeatSender, all_stop_reasons
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_store import CheckpointStore
from pipeline.checkpoints.keep_checkpoints import KeepCheckpoints
from pipeline.checkpoints.preemption import PreemptionNotice
from pipeline.processes.rank_exit import drop_ddp_wrapper


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
        """As at the end of a fit, where Lightning calls `teardown`; after an exception it does not."""
        drop_ddp_wrapper(self._trainer)


class DriverNotice(PreemptionNotice):
    """That the ranks are to leave: by SIGTERM to this one, or because the driver asks all of them.

    Args:
        pulse: of this process, which hears both.
    """

    def __init__(self, pulse: HeartbeatSender) -> None:
        super().__init__()
        self._pulse = pulse

    def listen(self, interrupts: bool = False) -> bool:
        """Signals are heard in the main thread (`heartbeat.take_sigterm`); training runs in another one."""
        return False

    def agreed(self, trainer: pl.Trainer) -> bool:
        """Whether any rank has had notice; a collective."""
        if self._pulse.wants_to_leave():
            self.give()
        return super().agreed(trainer)


class CheckpointCallback(KeepCheckpoints):
    """`KeepCheckpoints` under Ray: the ranks leave when the driver asks; metrics.csv goes where the checkpoints go.

    Args:
        options: When checkpoints are saved.
        store: Where they are written and kept.
        pulse: Of this process.
        metrics_copy: Of the run.
    """

    def __init__(
        self, options: CheckpointOptions, store: CheckpointStore, pulse: HeartbeatSender, metrics_copy: MetricsCopy
    ) -> None:
        super().__init__(options, store, DriverNotice(pulse))
        self._pulse = pulse
        self._metrics_copy = metrics_copy
        self._copy_is_old = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Brings metrics.csv to a node that does not have it."""
        if trainer.is_global_zero:
            self._metrics_copy.begin(Path(trainer.default_root_dir))

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """By now all is logged that belongs to the steps before."""
        if self._copy_is_old:
            self._copy_metrics(trainer)

    def save(self, trainer: pl.Trainer) -> None:
        """As `KeepCheckpoints.save`, with a line in the job's log."""
        step = trainer.global_step
        self._pulse.at(f"after step {step}, saving a checkpoint")
        if not trainer.is_global_zero:  # rank 0 passes this place when it has written
            self._pulse.at(f"after step {step}, waiting for rank 0 to save a checkpoint")
        super().save(trainer)
        if trainer.is_global_zero:
            self._pulse.at("")
        self._pulse.place = f"after step {step}, waiting for data"
        if trainer.is_global_zero and self.failure is None:
            self._copy_metrics(trainer)
            self._copy_is_old = True  # the row of this step is completed after this
            shown = (f"{name} {value:.4g}" for name, value in self._metrics(trainer).items())
            print(f"checkpoint reported: {', '.join(shown)}", flush=True)

    def leave(self, trainer: pl.Trainer) -> NoReturn:
        """Ends this attempt on all ranks.

        Raises:
            RestartRequestedError: always.
        """
        self._notice.close()
        raise RestartRequestedError(all_stop_reasons(self._pulse.leave, trainer.world_size), trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The last checkpoint must be there, and metrics.csv too, to its last row."""
        self._copy_metrics(trainer)
        super().on_train_end(trainer, pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """What the last rows say of it."""
        self._copy_metrics(trainer)
        super().on_exception(trainer, pl_module, exception)

    def _copy_metrics(self, trainer: pl.Trainer) -> None:
        self._copy_is_old = False
        if trainer.is_global_zero:
            self._metrics_copy.store()
