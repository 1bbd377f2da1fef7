"""SIGTERM to a job's driver, as `python -m jobs stop` sends it: the ranks save and leave, and the job ends in order."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from jobs.training.watchdog import POLL_S, Watchdog

STOPPED_STATUS = 128 + signal.SIGTERM
_TELLS_WITHIN_S = 4.0  # a rank tells every second what it has done, and hears as often that it is to leave
_AGAIN_S = 5.0


class StoppedError(Exception):
    """The job was stopped."""


@contextlib.contextmanager
def stop_on_sigterm(overseer: Watchdog) -> Iterator[None]:
    """At SIGTERM the ranks are asked to save and leave; where they have nothing to save, the job ends at once.

    Raises:
        StoppedError: in the main thread, wherever it waits. Ray's own code may make another error of it there, a
            SystemError for one, or swallow it: on the way out it is this one again, and it is raised until it is out.
    """
    at_once, over = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def look() -> None:
        if _trains(overseer, over):
            return
        at_once.set()
        while not over.is_set():
            os.kill(os.getpid(), signal.SIGTERM)
            over.wait(_AGAIN_S)

    def heed(number: int, frame: Any) -> None:
        if at_once.is_set() and not over.is_set():
            raise StoppedError("stopped")
        if not overseer.stopping:
            overseer.stop()
            print("stopping: the ranks save a checkpoint and leave", flush=True)
            threads.append(threading.Thread(target=look, daemon=True))
            threads[0].start()

    before = signal.signal(signal.SIGTERM, heed)
    try:
        yield
    except StoppedError:
        raise
    except Exception as error:
        over.set()
        if overseer.stopping:
            raise StoppedError("stopped") from error
        raise
    finally:
        over.set()
        for thread in threads:  # what it sent later would find the handler of before
            thread.join()
        signal.signal(signal.SIGTERM, before)


def _trains(overseer: Watchdog, over: threading.Event) -> bool:
    """Whether some rank trains, or ended while that was asked: what it did last is told some time later."""
    deadline = time.monotonic() + _TELLS_WITHIN_S
    while True:
        with contextlib.suppress(Exception):  # the cluster does not answer
            if overseer.trains():
                return True
        if time.monotonic() > deadline:
            return False
        if over.wait(POLL_S / 2):
            return True
