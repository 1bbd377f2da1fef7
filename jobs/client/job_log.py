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

PATIENCE = 5  # requests, a second apart, before a cluster that does not answer is given up


def follow(client: JobSubmissionClient, job_id: str) -> int:
    """Print a job's log as it grows, until the job ends.

    Returns:
        0 if the job succeeded, else its exit code, or 1 if it has none.

    Raises:
        ConnectionError: the cluster has gone; the message says how to resume the run.
    """
    printed = 0
    with _heeding_interrupts() as interrupted:
        while True:
            try:
                printed = asyncio.run(_print_log(client, job_id, printed))
            except (RuntimeError, OSError, aiohttp.ClientError):  # the connection broke: what was printed is skipped
                if interrupted.is_set():
                    raise KeyboardInterrupt from None
                time.sleep(1.0)
            info = _ask(client, job_id)
            if info.status.is_terminal():
                if info.status != JobStatus.SUCCEEDED:
                    print(f"{job_id}: {info.status}: {split_message(info)[0]}", file=sys.stderr)
                return 0 if info.status == JobStatus.SUCCEEDED else info.driver_exit_code or 1
            time.sleep(0.5)


def _ask(client: JobSubmissionClient, job_id: str) -> JobDetails:
    """Get the details of a submitted job; ConnectionError if the cluster does not answer, or has lost the job."""
    for left in reversed(range(PATIENCE)):
        try:
            return client.get_job_info(job_id)
        except (requests.exceptions.RequestException, RuntimeError) as error:
            unknown = isinstance(error, RuntimeError) and "status code 404" in str(error)
            if left and not unknown:
                time.sleep(1.0)
                continue
            what = (
                "was started anew and does not know the job"
                if unknown
                else f"has gone ({connection_error_reason(error)})"
            )
            break
    raise ConnectionError(
        f"the cluster at {client.get_address()} {what}; when one is there again, `python -m jobs resume {job_id}` "
        "takes the run up where it was, from its newest checkpoint"
    )


@contextlib.contextmanager
def _heeding_interrupts() -> Iterator[threading.Event]:
    """Make Ctrl-C raise KeyboardInterrupt in the main thread, and record it in the event.

    By default `asyncio.run` cancels its task instead, which a library that is connecting may turn into another error.
    """
    interrupted = threading.Event()

    def heed(number: int, frame: Any) -> None:
        interrupted.set()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.signal(signal.SIGINT, heed)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


async def _print_log(client: JobSubmissionClient, job_id: str, skip: int) -> int:
    """Print the log from character `skip` on, and return its length so far."""
    seen = 0
    async for chunk in client.tail_job_logs(job_id):
        fresh = chunk[max(skip - seen, 0) :]
        seen += len(chunk)
        if fresh:
            print(fresh, end="", flush=True)
    return max(seen, skip)
