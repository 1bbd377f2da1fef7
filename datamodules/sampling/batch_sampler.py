"""Batch samplers: the batches that a rank requests from its data loader workers, in training and in evaluation.

The unit sent to a worker is a whole batch, so the order of batches does not depend on the number of workers.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from datamodules.sampling.clip_sampling import Integers
from datamodules.sampling.epoch_plan import EvaluationBatches, TrainPlan


class Request(NamedTuple):
    """One batch to load: sample numbers int64 (B,) within the split, and the epoch that keys their augmentation.

    `ahead` are the samples of the next batch that goes to the same worker, for prefetching; empty if not known.
    `passes`, int64 (B,), tell draws of the same sample in a class-balanced epoch apart; empty where each comes once.
    """

    samples: Integers
    epoch: int
    ahead: Integers | tuple[()] = ()
    passes: Integers | tuple[()] = ()

    def augmentation_keys(self, seed: int) -> list[list[int]]:
        """The integers that key the augmentation of each sample: seed, epoch, sample, and its pass unless 0."""
        passes = self.passes if len(self.passes) else np.zeros_like(self.samples)
        return [
            [seed, self.epoch, int(sample), *([int(number)] if number else [])]
            for sample, number in zip(self.samples, passes, strict=True)
        ]


@dataclass(frozen=True)
class ResumePoint:
    """A position within an epoch: samples consumed by all ranks together, and the number of steps taken for them."""

    epoch: int = 0
    consumed: int = 0
    steps: int = 0


class TrainRequests(Sampler[Request]):
    """Sampler of a rank's training batches in the current epoch, beginning at the resume point.

    Its length is the steps done plus the steps left: with less, Lightning would end a resumed epoch early.
    """

    def __init__(self, plan: TrainPlan, rank: int, resume: ResumePoint) -> None:
        self.plan = plan
        self.rank = rank
        self.resume = resume
        self.epoch = resume.epoch

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch; Lightning calls it at the start of every epoch."""
        self.epoch = epoch

    @property
    def _start(self) -> ResumePoint:
        return self.resume if self.epoch == self.resume.epoch else ResumePoint(self.epoch)

    def __len__(self) -> int:
        return self._start.steps + self.plan.num_steps(self._start.consumed)

    def __iter__(self) -> Iterator[Request]:
        for draws in self.plan.draws(self.epoch, self.rank, self._start.consumed):
            yield Request(draws.samples, self.epoch, passes=() if self.plan.strata is None else draws.passes)

    def point_after(self, steps: int) -> ResumePoint:
        """The resume point after `steps` steps of the current epoch, counting those before it was resumed."""
        consumed = self.plan.consumed_after(steps - self._start.steps, self._start.consumed)
        return ResumePoint(self.epoch, consumed, steps)


class EvaluationRequests(Sampler[Request]):
    """Sampler of a rank's evaluation batches; see `EvaluationBatches`."""

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        rank: int,
        world_size: int,
        done: NDArray[np.bool_] | None = None,
    ) -> None:
        self._batches = EvaluationBatches(num_samples, batch_size, rank, world_size, done)

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Request]:
        for samples in self._batches:
            yield Request(samples, 0)


class RequestPrefetcher(Sampler[Request]):
    """Wraps a sampler: adds to each request the samples of the one `distance` later, as its `ahead`.

    A DataLoader assigns requests to its workers in turn, so with `distance` workers both go to the same worker.

    Args:
        requests: the sampler.
        distance: number of requests between the two.
        start: number of requests at the beginning that are left out.
    """

    def __init__(self, requests: TrainRequests | EvaluationRequests, distance: int, start: int = 0) -> None:
        self.requests = requests
        self.distance = distance
        self.start = start

    def __len__(self) -> int:
        return len(self.requests) - self.start

    def __iter__(self) -> Iterator[Request]:
        pending: deque[Request] = deque()
        for later in islice(self.requests, self.start, None):
            pending.append(later)
            if len(pending) > self.distance:
                yield pending.popleft()._replace(ahead=later.samples)
        yield from pending
