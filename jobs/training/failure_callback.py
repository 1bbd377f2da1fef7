"""FailureCallback: records failures of ranks, and decides whether Ray Train's controller retries."""

import contextlib
import logging
import re
import sys
import time
from collections.abc import Mapping
from typing import Any

import ray
import ray.train

from jobs.ray_internals import FAILURE_LOGGERS, user_exception
from jobs.spec.job_spec import JobSpec
from jobs.storage.run_folder import RunFolder, describe_exception
from jobs.training.worker import RefusedInputError

_PROCESS_FIELDS = (("pid", "process"), ("ip", "on node"))  # in Ray's message about a dead actor


class FailureCallback(ray.train.UserCallback):
    """Writes each failure to the run's folder, and ends the run if another attempt would fail in the same way.

    Args:
        spec: The spec of the job.
        board: Handle of the `jobs.training.heartbeat.HeartbeatBoard`, which has the reason why a hung rank was ended;
            None if there is no watchdog.
        work: The name of the interrupted work in messages, such as "training".
        num_failures: The number of failures in earlier attempts of the job.
    """

    def __init__(self, spec: JobSpec, board: Any = None, work: str = "training", num_failures: int = 0) -> None:
        self._spec = spec
        self._board = board
        self._work = work
        self._num_failures = num_failures

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Called in the controller with the exceptions of the ranks that failed.

        Raises:
            RuntimeError: the input was refused; Ray Train takes this for an error that is not to be retried.
        """
        for name in FAILURE_LOGGERS:
            logging.getLogger(name).addFilter(_is_unreported)
        reasons = {str(rank): describe_exception(error) for rank, error in worker_exceptions.items()}
        raised = [user_exception(error) for error in worker_exceptions.values()]
        refused = [str(error) for error in raised if isinstance(error, RefusedInputError)]
        reason = refused[0] if refused else describe_failures(worker_exceptions)
        if self._board is not None:
            with contextlib.suppress(ray.exceptions.RayError):  # the driver is gone, and the board with it
                reason = ray.get(self._board.hang_reason.remote(), timeout=10) or reason
                self._board.close_group.remote()
        try:
            run = RunFolder(self._spec.storage_path, str(self._spec.name))
            run.add_failure({"time": time.time(), "reason": reason, "refused": bool(refused), "ranks": reasons})
        except OSError as error:
            folder = self._spec.storage_path
            print(f"warning: what failed cannot be noted in {folder}: {error}", file=sys.stderr, flush=True)
        if refused:
            logging.getLogger("ray.train").setLevel(logging.CRITICAL)  # the driver prints it in one line
            raise RuntimeError(refused[0])
        preempted = any(_is_preempted(error) for error in worker_exceptions.values())
        self._num_failures += not preempted
        next_step = self._describe_next_attempt("" if preempted else f"failure {self._num_failures}")
        print(f"{self._work} was interrupted: {reason}; {next_step}", file=sys.stderr, flush=True)

    def _describe_next_attempt(self, failure: str) -> str:
        limit = self._spec.max_failures
        if failure and -1 < limit < self._num_failures:
            return f"this was {failure}, and max_failures={limit}"
        count = "" if not failure else f" ({failure})" if limit == -1 else f" ({failure} of {limit})"
        saved = None
        if self._work == "training":
            with contextlib.suppress(OSError):  # the storage is gone; the next attempt reports it
                saved = RunFolder(self._spec.storage_path, str(self._spec.name)).checkpoints().list_checkpoints()
        return (f"going on from step {saved[-1].step}" if saved else "beginning again") + count


def describe_failures(worker_exceptions: Mapping[int, Exception]) -> str:
    """Describe the lost ranks, because the errors of the others only follow from that; else the errors of all ranks."""
    lost = {rank: loss for rank, error in worker_exceptions.items() if (loss := _describe_loss(error))}
    if lost:
        return "; ".join(f"rank {rank}{loss}" for rank, loss in lost.items())
    return "; ".join(f"rank {rank}: {describe_exception(error)}" for rank, error in worker_exceptions.items())


def _describe_loss(error: Exception) -> str:
    """Describe the lost process of a rank, and the cause that Ray gives; empty for any other failure."""
    failure = getattr(error, "health_check_failure", None)
    if not isinstance(failure, ray.exceptions.RayActorError):
        return ""
    message = str(failure)
    causes = {"node has died": "was lost with its node", "low on memory": "was killed: its node ran low on memory"}
    causes["SYSTEM_ERROR"] = "was killed, or crashed"
    cause = next((text for marker, text in causes.items() if marker in message), "")
    matches = {label: re.search(rf"^\t{field}: (\S+)$", message, re.MULTILINE) for field, label in _PROCESS_FIELDS}
    process = " ".join(f"{label} {match[1]}" for label, match in matches.items() if match)
    return f"{process and f' ({process})'} {cause}" if cause else ""


def _is_preempted(error: Exception) -> bool:
    """Whether the rank's node was preempted; Ray does not count such a failure."""
    return bool(getattr(getattr(error, "health_check_failure", None), "preempted", False))


def _is_unreported(record: logging.LogRecord) -> bool:
    """Logging filter that drops Ray's messages about failed ranks, which this callback prints itself."""
    error = record.exc_info[1] if record.exc_info else None
    reported = (ray.train.WorkerGroupError, ray.exceptions.RayActorError, ray.exceptions.RayTaskError)
    return not isinstance(error, reported)
