"""Following the log of a running job; reconnects after a lost connection, until the job or the cluster ends."""

import asyncio
import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import aiohttp
import requests
from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.job_submission import JobStatus, JobSubmissionClient

from jobs.client.job_server import connection_error_reason, split_message
from jobs.storage.job_outcome import OutcomeLineFilter

MAX_REQUESTS = 5  # requests, a second apart, before a cluster that does not answer is given up


def follow(client: JobSubmissionClient, job_id: str) -> int:
    """Print a job's log as it grows, until the job ends.

    Returns:
        0 if the job succeeded, else its exit code, or 1 if it has none.

    Raises:
        ConnectionError: the cluster has gone; the message says how to resume the run.
    """
    printer = _LogPrinter()
    with _record_interrupts() as interrupted:
        while True:
            try:
                asyncio.run(printer.print_log(client, job_id))
            except (RuntimeError, OSError, aiohttp.ClientError):  # the connection broke
                if interrupted.is_set():
                    raise KeyboardInterrupt from None
                time.sleep(1.0)
            details = _job_details(client, job_id)
            if details.status.is_terminal():
                printer.finish()
                if details.status != JobStatus.SUCCEEDED:
                    print(f"{job_id}: {details.status}: {split_message(details)[0]}", file=sys.stderr)
                return 0 if details.status == JobStatus.SUCCEEDED else details.driver_exit_code or 1
            time.sleep(0.5)


class _LogPrinter:
    """Prints a job's log as it grows, each part once over all connections, without the line of its outcome."""

    def __init__(self) -> None:
        self._filter = OutcomeLineFilter()
        self._num_characters = 0  # received so far

    async def print_log(self, client: JobSubmissionClient, job_id: str) -> None:
        """Print the rest of the log, until the connection ends; the server sends the log from its beginning."""
        position = 0
        async for chunk in client.tail_job_logs(job_id):
            new = chunk[max(self._num_characters - position, 0) :]
            position += len(chunk)
            self._num_characters = max(self._num_characters, position)
            print(self._filter.filter(new), end="", flush=True)

    def finish(self) -> None:
        """Print what is left of the log of a job that has ended."""
        print(self._filter.rest(), end="", flush=True)


def _job_details(client: JobSubmissionClient, job_id: str) -> JobDetails:
    """Get the details of a submitted job; ConnectionError if the cluster does not answer, or has lost the job."""
    for retries_left in reversed(range(MAX_REQUESTS)):
        try:
            return client.get_job_info(job_id)
        except (requests.exceptions.RequestException, RuntimeError) as error:
            is_lost = isinstance(error, RuntimeError) and "status code 404" in str(error)
            if retries_left and not is_lost:
                time.sleep(1.0)
                continue
            reason = (
                "was started anew and does not know the job"
                if is_lost
                else f"has gone ({connection_error_reason(error)})"
            )
            break
    raise ConnectionError(
        f"the cluster at {client.get_address()} {reason}; when one is there again, `python -m jobs resume {job_id}` "
        "takes the run up where it was, from its newest checkpoint"
    )


@contextlib.contextmanager
def _record_interrupts() -> Iterator[threading.Event]:
    """Make Ctrl-C raise KeyboardInterrupt in the main thread, and record it in the event.

    By default `asyncio.run` cancels its task instead, which a library that is connecting may turn into another error.
    """
    interrupted = threading.Event()

    def handle_signal(number: int, frame: Any) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    previous = signal.signal(signal.SIGINT, handle_signal)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, previous)
