"""Functions for a child process: that take long and say how far they are, or that leave a child behind."""

import os
import signal
import time
from collections.abc import Callable


def work(steps: int, step_s: float, progress: Callable[[int], None]) -> int:
    """Does so many steps; each takes `step_s` seconds."""
    for step in range(steps):
        time.sleep(step_s)
        progress(step)
    return steps


def stand_still(progress: Callable[[int], None]) -> None:
    """Reports the same step for a minute."""
    for _ in range(600):
        time.sleep(0.1)
        progress(7)


def report_fast(calls: int, progress: Callable[[int], None]) -> int:
    """Reports very often."""
    for step in range(calls):
        progress(step)
    return calls


def fork_and_die(seconds: float) -> None:
    """Is killed, and leaves a child that lives for some seconds."""
    if os.fork() == 0:
        time.sleep(seconds)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
