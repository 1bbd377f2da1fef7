"""Progress of a packing job: the tasks report to an actor on the driver's node, which the driver polls."""

import os
import time
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from pipeline.packing.shard_builder import Outcome, PartResult

TELL_INTERVAL_S = 1.0


class PackProgressActor:
    """Actor on the driver's node that collects the progress of the tasks."""

    def __init__(self) -> None:
        self._news: dict[int, Outcome] = {}
        self._attempts: dict[int, str] = {}
        self._again: list[int] = []

    def tell(self, number: int, attempt: str, so_far: Outcome) -> None:
        """Store the total progress of an attempt at part `number`; called by the tasks, from zero in each attempt."""
        self._news[number] = so_far
        if self._attempts.setdefault(number, attempt) != attempt:
            self._attempts[number] = attempt
            self._again.append(number)

    def take(self) -> tuple[dict[int, Outcome], list[int]]:
        """The progress reported since the last call by part number, and the numbers of restarted parts."""
        told = self._news, self._again
        self._news, self._again = {}, []
        return told


def make_progress_reporter(number: int, tally: Any) -> Callable[[Outcome], None]:
    """Make a function that adds up outcomes, and reports the sum to the actor at most every TELL_INTERVAL_S seconds."""
    attempt = os.urandom(8).hex()
    so_far = Outcome(0, 0, 0)
    told = 0.0

    def tell(outcome: Outcome) -> None:
        nonlocal so_far, told
        so_far = add_outcomes(so_far, outcome)
        now = time.monotonic()
        if tally is not None and now - told >= TELL_INTERVAL_S:
            told = now
            tally.tell.remote(number, attempt, so_far)

    return tell


def add_outcomes(one: Outcome, other: Outcome, sign: int = 1) -> Outcome:
    """The sum of two outcomes, with `reused` of `other`; with `sign` -1 their difference, with `reused` of `one`."""
    return Outcome(
        one.videos + sign * other.videos,
        one.refused + sign * other.refused,
        one.source_bytes + sign * other.source_bytes,
        (other if sign > 0 else one).reused,
        tuple(a + sign * b for a, b in zip_longest(one.stored_bytes, other.stored_bytes, fillvalue=0)),
    )


def outcome_of(result: PartResult) -> Outcome:
    """The outcome of a finished part, from its result."""
    renditions = (result.rows, *(one.rows for one in result.smaller))
    stored = tuple(sum(row.video_size for row in rows) for rows in renditions)
    refused = len(result.refused)
    return Outcome(len(result.rows) + refused, refused, result.source_bytes, result.reused, stored)
