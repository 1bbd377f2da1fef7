"""TrialBoard: where the trials of a search report their validations, and wait for the decision to go on or to stop."""

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from jobs.training.watchdog import Watchdog


class TrialValidation(NamedTuple):
    """What rank 0 of a trial reports at the end of an epoch with a validation."""

    epoch: int  # epochs done
    step: int  # optimizer steps done
    metrics: dict[str, float]  # logged metrics that are finite
    is_last: bool  # whether training ends with this epoch in any case


class TrialBoard:
    """Actor between the ranks of trials and the search: one for all trials, addressed by the trial's number."""

    def __init__(self) -> None:
        self._reports: dict[int, asyncio.Queue[TrialValidation]] = {}
        self._decisions: dict[int, asyncio.Future[bool]] = {}
        self._stopped: set[int] = set()
        self._is_stopping = False

    async def report(self, number: int, validation: TrialValidation) -> bool:
        """Report a validation and wait for the decision; called by rank 0, again if it was killed while it waited.

        Returns:
            Whether the trial is to stop.
        """
        if number in self._stopped:
            return True
        decision: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._decisions[number] = decision
        self._queue(number).put_nowait(validation)
        return await decision

    async def next_report(self, number: int, timeout_s: float) -> TrialValidation | None:
        """The next validation of a trial; None if there is none within `timeout_s` seconds."""
        try:
            return await asyncio.wait_for(self._queue(number).get(), timeout_s)
        except TimeoutError:
            return None

    async def decide(self, number: int, stop: bool) -> None:
        """Answer the report of a trial that waits, if one does; a stop also holds for later reports."""
        if stop:
            self._stopped.add(number)
        decision = self._decisions.pop(number, None)
        if decision is not None and not decision.done():
            decision.set_result(stop)

    async def stop_search(self) -> None:
        """Record that the whole search is being stopped, so that its trials are to be resumed later."""
        self._is_stopping = True

    async def is_stopping(self) -> bool:
        """Whether the whole search is being stopped."""
        return self._is_stopping

    def _queue(self, number: int) -> "asyncio.Queue[TrialValidation]":
        return self._reports.setdefault(number, asyncio.Queue())


@dataclass
class TrialLink:
    """Connection of a run under Ray Train with the search whose trial it is.

    Args:
        number: The number of the trial.
        metric: The metric that the search ranks by.
        board: Handle of the `TrialBoard`.

    Attributes:
        watchdog: The watchdog of the run while it trains, by which it can be stopped.
    """

    number: int
    metric: str
    board: Any
    watchdog: Watchdog | None = None

    @contextlib.contextmanager
    def expose(self, watchdog: Watchdog) -> Iterator[None]:
        """Make the watchdog available while the block runs: a trial has no SIGTERM handler, as it is in a thread."""
        self.watchdog = watchdog
        try:
            yield
        finally:
            self.watchdog = None

    def settings(self) -> dict[str, Any]:
        """What the ranks need of it."""
        return {"number": self.number, "metric": self.metric, "board": self.board}
