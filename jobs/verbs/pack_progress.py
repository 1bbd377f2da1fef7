"""How far the tasks of a packing job are: told to an actor beside the driver, which the driver asks."""

import os
import time
from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from pipeline.packing.shard_builder import Outcome, PartResult

TELL_INTERVAL_S = 1.0


class PackProgressActor:
    """An actor beside the driver, to which the tasks tell how far they are."""

    def __init__(self) -> None:
        self._news: dict[int, Outcome] = {}
        self._attempts: dict[int, str] = {}
        self._again: list[int] = []

    def tell(self, number: int, attempt: str, so_far: Outcome) -> None:
        """Called by an attempt at part `number` with all that it has done so far; each attempt begins with nothing."""
        self._news[number] = so_far
        if self._attempts.setdefault(number, attempt) != attempt:
            self._attempts[number] = attempt
            self._again.append(number)

    def take(self) -> tuple[dict[int, Outcome], list[int]]:
        """What was told since the last call, by number, and the parts that began again."""
        told = self._news, self._again
        self._news, self._again = {}, []
        return told


def make_progress_reporter(number: int, tally: Any) -> Callable[[Outcome], None]:
    """A function that adds outcomes up and tells them, once in a while."""
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
    """The sum of two outcomes, `reused` where `other` is; with `sign` -1 what is left of `one` without `other`."""
    return Outcome(
        one.videos + sign * other.videos,
        one.refused + sign * other.refused,
        one.source_bytes + sign * other.source_bytes,
        (other if sign > 0 else one).reused,
        tuple(a + sign * b for a, b in zip_longest(one.stored_bytes, other.stored_bytes, fillvalue=0)),
    )


def outcome_of(result: PartResult) -> Outcome:
    """All that a finished part adds to the counts."""
    renditions = (result.rows, *(one.rows for one in result.smaller))
    stored = tuple(sum(row.video_size for row in rows) for rows in renditions)
    refused = len(result.refused)
    return Outcome(len(result.rows) + refused, refused, result.source_bytes, result.reused, stored)
