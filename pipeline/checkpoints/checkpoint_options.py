"""CheckpointOptions: when the checkpoints of a run are saved and which are kept, for `fit` and for jobs."""

from dataclasses import dataclass, replace
from typing import Literal, Self


@dataclass(frozen=True)
class CheckpointOptions:
    """When a run saves checkpoints and which of them are kept.

    Checkpoints are also saved before and after each validation, at the ends of epochs, at SIGTERM and at Ctrl-C. One is
    called `checkpoints/step-{step:08d}.ckpt`, written aside and renamed; `last.ckpt` and `best.ckpt` in the run's
    folder are links to the newest and the best.

    Args:
        every_n_steps: optimizer steps between checkpoints; 0: not by steps.
        every_minutes: minutes between checkpoints; 0: not by minutes.
        keep_newest: number of newest checkpoints to keep, at least 1.
        keep_best: number of best validated checkpoints to keep in addition.
        monitor: the metric that ranks checkpoints; where it was never measured, best.ckpt is the newest. Default:
            val/top1, or val/mean_average_precision for a dataset of several labels a video.
        monitor_mode: whether a higher (`max`) or a lower (`min`) value of the metric is better.

    Raises:
        ValueError: a number is out of range.
    """

    every_n_steps: int = 0
    every_minutes: float = 15.0
    keep_newest: int = 3
    keep_best: int = 1
    monitor: str | None = None
    monitor_mode: Literal["max", "min"] = "max"

    @property
    def metric(self) -> str:
        """Name of the metric that ranks checkpoints."""
        return self.monitor or "val/top1"

    def for_task(self, task: str) -> Self:
        """The options with the default metric of a task, if none was chosen."""
        return (
            replace(self, monitor="val/mean_average_precision") if task == "multi_label" and not self.monitor else self
        )

    def __post_init__(self) -> None:
        """Refuses numbers out of range."""
        for name, least in {"every_n_steps": 0, "every_minutes": 0, "keep_newest": 1, "keep_best": 0}.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"checkpoints.{name}={getattr(self, name)}: must be at least {least}")
