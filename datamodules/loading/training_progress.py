"""TrainingProgress: position of training in the epoch and in the run, over all ranks."""

from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl

from datamodules.leakage.training_fingerprint import TrainingFingerprint
from datamodules.loading.split_loaders import SplitLoaders
from datamodules.sampling.batch_sampler import ResumePoint, TrainRequests


class TrainingProgress:
    """Counts samples by completed steps, not by batches read ahead.

    Attributes:
        resume: point at which training starts; the beginning for a new run.
        requests: batch sampler of this rank; None before training.
    """

    def __init__(self) -> None:
        self.resume = ResumePoint()
        self.requests: TrainRequests | None = None
        self._fingerprint: TrainingFingerprint | None = None
        self._configured_reload: int | None = None

    def begin(self, loaders: SplitLoaders, trainer: pl.Trainer | None) -> TrainRequests:
        """Creates the batch sampler of a rank, from the resume point or the trainer's epoch, whichever is later."""
        plan = loaders.train_plan()
        self.requests = TrainRequests(plan, loaders.rank, self.resume)
        if trainer:
            self.requests.set_epoch(max(self.resume.epoch, trainer.current_epoch))
            self._reload_next_epoch(trainer, len(self.requests) != plan.num_steps())
        return self.requests

    def _reload_next_epoch(self, trainer: pl.Trainer, needed: bool) -> None:
        """Makes Lightning reload the loader after an epoch resumed with another number of ranks or batch size.

        The next epoch has another length, which Lightning reads only when it reloads the loader.
        """
        name = "reload_dataloaders_every_n_epochs"  # an attribute that the trainer's __init__ does not declare
        if needed:
            self._configured_reload = getattr(trainer, name)
            setattr(trainer, name, 1)
        elif self._configured_reload is not None:
            setattr(trainer, name, self._configured_reload)
            self._configured_reload = None

    def share_of_epoch(self, steps: int) -> float:
        """Implements `ShardedVideoDataModule.share_of_epoch`."""
        if self.requests is None:
            return 0.0
        return self.requests.point_after(steps).consumed / self.requests.plan.num_samples

    def samples_seen(self, steps: int) -> int:
        """Implements `ShardedVideoDataModule.samples_seen`."""
        if self.requests is None:
            return 0
        point = self.requests.point_after(steps)
        return point.epoch * self.requests.plan.num_samples + point.consumed

    def state(self, loaders: SplitLoaders, trainer: pl.Trainer | None) -> dict[str, Any]:
        """Returns the state for a checkpoint: `epoch`, `consumed`, `steps`, and on rank 0 the fingerprint `seen`.

        Empty before training.
        """
        if self.requests is None or trainer is None:
            return {}
        progress = trainer.fit_loop.epoch_loop.batch_progress.current
        steps: int = progress.processed  # type: ignore[attr-defined] # declared as the class above its own
        state = asdict(self.requests.point_after(steps))
        if loaders.rank == 0:  # only rank 0 writes the checkpoint
            if self._fingerprint is None:  # lets `evaluate` find training videos in other datasets too
                self._fingerprint = TrainingFingerprint.from_index(loaders.index, loaders.training_rows)
            state["seen"] = self._fingerprint.state()
        return state
