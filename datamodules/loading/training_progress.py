"""Where training stands, in the epoch and in the run, for all ranks together."""

from dataclasses import asdict
from typing import Any

import pytorch_lightning as pl

from datamodules.leakage.training_fingerprint import TrainingFingerprint
from datamodules.loading.split_loaders import SplitLoaders
from datamodules.sampling.batch_sampler import ResumePoint, TrainRequests


class TrainingProgress:
    """Counts samples by the steps that were trained on, not by the batches that were read ahead.

    Attributes:
        resume: where the epoch that is trained on first was left.
        requests: the batches of this rank; None while nothing is trained on.
    """

    def __init__(self) -> None:
        self.resume = ResumePoint()
        self.requests: TrainRequests | None = None
        self._seen: TrainingFingerprint | None = None
        self._usual_reload: int | None = None

    def begin(self, loaders: SplitLoaders, trainer: pl.Trainer | None) -> TrainRequests:
        """The batches of a rank, from the point of resumption on, or of the trainer's epoch where that is later."""
        plan = loaders.train_plan()
        self.requests = TrainRequests(plan, loaders.rank, self.resume)
        if trainer:
            self.requests.set_epoch(max(self.resume.epoch, trainer.current_epoch))
            self._ask_again_next_epoch(trainer, len(self.requests) != plan.num_steps())
        return self.requests

    def _ask_again_next_epoch(self, trainer: pl.Trainer, needed: bool) -> None:
        """Makes Lightning reload after an epoch that was begun with other ranks or another batch size.

        The next epoch has another length, and Lightning asks for the length only when it reloads.
        """
        name = "reload_dataloaders_every_n_epochs"  # an attribute that the trainer's __init__ does not declare
        if needed:
            self._usual_reload = getattr(trainer, name)
            setattr(trainer, name, 1)
        elif self._usual_reload is not None:
            setattr(trainer, name, self._usual_reload)
            self._usual_reload = None

    def share_of_epoch(self, steps: int) -> float:
        """See `ShardedVideoDataModule.share_of_epoch`."""
        if self.requests is None:
            return 0.0
        return self.requests.point_after(steps).consumed / self.requests.plan.num_samples

    def samples_seen(self, steps: int) -> int:
        """See `ShardedVideoDataModule.samples_seen`."""
        if self.requests is None:
            return 0
        point = self.requests.point_after(steps)
        return point.epoch * self.requests.plan.num_samples + point.consumed

    def state(self, loaders: SplitLoaders, trainer: pl.Trainer | None) -> dict[str, Any]:
        """What a checkpoint says of it, as plain data: `epoch`, `consumed`, `steps`, and from the first rank `seen`.

        Nothing where nothing is trained on.
        """
        if self.requests is None or trainer is None:
            return {}
        progress = trainer.fit_loop.epoch_loop.batch_progress.current
        steps: int = progress.processed  # type: ignore[attr-defined] # declared as the class above its own
        state = asdict(self.requests.point_after(steps))
        if loaders.rank == 0:  # the one that writes
            if self._seen is None:  # so that `evaluate` knows in other datasets too what was trained on
                self._seen = TrainingFingerprint.of(loaders.index, loaders.training_rows)
            state["seen"] = self._seen.state()
        return state
