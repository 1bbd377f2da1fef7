"""Keeps what a library does to the scheduling of the tests' own process from staying."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ordinary_priority() -> Iterator[None]:
    """For what may encode AV1: as root, SVT-AV1 gives the calling thread real-time priority, and leaves it so.

    All that is started afterwards inherits it, and then one thread that spins keeps the whole machine from running.
    """
    try:
        yield
    finally:
        if is_real_time():
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def is_real_time() -> bool:
    """Whether this thread runs before all ordinary ones."""
    return hasattr(os, "sched_getscheduler") and os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR)
