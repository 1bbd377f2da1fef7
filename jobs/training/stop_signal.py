"""SIGTERM handler of the driver, for `python -m jobs stop`: the ranks save a checkpoint, and the job ends in order."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from jobs.training.watchdog import POLL_S, Watchdog

STOPPED_STATUS = 128 + signal.SIGTERM
_PROGRESS_TIMEOUT_S = 4.0  # several heartbeats: ranks report progress and receive requests every second
_RESEND_INTERVAL_S = 5.0


class JobStoppedError(Exception):
    """Raised in the driver if the job was stopped."""


@contextlib.contextmanager
def stop_on_sigterm(watchdog: Watchdog) -> Iterator[None]:
    """At SIGTERM, make the ranks save a checkpoint and leave; if they have nothing to save, end the job at once.

    Raises:
        JobStoppedError: raised in the main thread, wherever it waits. Ray's code may turn it into another error, such
            as SystemError, or swallow it: so any error that leaves the block after SIGTERM is raised as
            JobStoppedError, and the signal is sent again until the block is left.
    """
    at_once, closed = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def resend_if_untrained() -> None:
        if _has_trained(watchdog, closed):
            return
        at_once.set()
        while not closed.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
            closed.wait(_RESEND_INTERVAL_S)

    def handle_signal(number: int, frame: Any) -> None:
        if at_once.is_set() and not closed.is_set():
            raise JobStoppedError("stopped")
        if not watchdog.is_stopping:
            watchdog.stop()
            print("stopping: the ranks save a checkpoint and leave", flush=True)
            threads.append(threading.Thread(target=resend_if_untrained, daemon=True))
            threads[0].start()

    previous = signal.signal(signal.SIGTERM, handle_signal)
    try:
        yield
    except JobStoppedError:
        raise
    except Exception as error:
        closed.set()
        if watchdog.is_stopping:
            raise JobStoppedError("stopped") from error
        raise
    finally:
        closed.set()
        for thread in threads:  # a later signal of the thread would reach the restored handler
            thread.join()
        signal.signal(signal.SIGTERM, previous)


def _has_trained(watchdog: Watchdog, closed: threading.Event) -> bool:
    """Whether some rank has trained a step, or the block was left; waits, because heartbeats are delayed."""
    deadline = time.monotonic() + _PROGRESS_TIMEOUT_S
    while True:
        with contextlib.suppress(Exception):  # the cluster does not answer
            if watchdog.has_trained():
                return True
        if time.monotonic() > deadline:
            return False
        if closed.wait(POLL_S / 2):
            return True
