"""RecordFailures: what Ray Train's controller is told to do when a rank fails."""

import contextlib
import logging
import sys
import time
from collections.abc import Mapping
from typing import Any

import ray
import ray.train

from jobs.results import RunFolder, one_line

REFUSED = "RefusedError: "  # how `one_line` begins for a jobs.worker.RefusedError


class RecordFailures(ray.train.UserCallback):
    """Writes each failure to the run's folder, and ends the run where another attempt would fail alike.

    Args:
        storage_path: An absolute folder, or a URI.
        name: The run's name.
        board: Handle of the `jobs.pulse.Board`, which knows why a rank that hung was ended; None where nobody looks.
        work: What was interrupted, in a word.
    """

    def __init__(self, storage_path: str, name: str, board: Any = None, work: str = "training") -> None:
        self._storage_path = storage_path
        self._name = name
        self._board = board
        self._work = work

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Called in the controller with the exceptions of the ranks that failed.

        Raises:
            RuntimeError: the input was refused; Ray Train takes this for an error that is not to be retried.
        """
        reasons = {str(rank): one_line(error) for rank, error in worker_exceptions.items()}
        refused = [reason.removeprefix(REFUSED) for reason in reasons.values() if reason.startswith(REFUSED)]
        reason = refused[0] if refused else "; ".join(f"rank {rank}: {text}" for rank, text in reasons.items())
        if self._board is not None:
            with contextlib.suppress(ray.exceptions.RayError):  # the driver is gone, and the board with it
                reason = ray.get(self._board.verdict.remote(), timeout=10) or reason
                self._board.forget.remote()
        try:
            run = RunFolder(self._storage_path, self._name)
            run.add_failure({"time": time.time(), "reason": reason, "ranks": reasons})
        except OSError as error:
            print(f"warning: what failed cannot be noted in {self._storage_path}: {error}", file=sys.stderr, flush=True)
        print(f"{self._work} was interrupted: {reason}", file=sys.stderr, flush=True)
        if refused:
            logging.getLogger("ray.train").setLevel(logging.CRITICAL)  # the driver says it in one line
            raise RuntimeError(refused[0])
