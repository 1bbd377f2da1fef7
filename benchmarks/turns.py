"""Two or more ways to do the same thing, taking turns in one run, so that the machine's other work meets all alike."""

import contextlib
import os
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import psutil


class Spent(NamedTuple):
    """What one turn took: seconds by the clock, and seconds of processors, those of its processes included."""

    wall: float
    processor: float


def spend(work: Callable[[], object]) -> Spent:
    """Does it once."""
    wall, used = time.perf_counter(), _processor_seconds()
    work()
    return Spent(time.perf_counter() - wall, _processor_seconds() - used)


def take_turns(ways: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1) -> dict[str, list[Spent]]:
    """Does each once a round, every round beginning with another one.

    Args:
        ways: what to do, by name.
        rounds: that count.
        warm_up: rounds before that do not.

    Returns:
        For each name what every round took.
    """
    names = list(ways)
    spent: dict[str, list[Spent]] = {name: [] for name in names}
    for number in range(warm_up + rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            one = spend(ways[name])
            if number >= warm_up:
                spent[name].append(one)
    return spent


def ratio(slow: list[Spent], quick: list[Spent], what: str = "processor") -> str:
    """How many times quicker: the median over rounds, and the quartiles.

    Args:
        slow: of each round.
        quick: of the same rounds.
        what: `processor` or `wall`.
    """
    ratios = [getattr(one, what) / getattr(other, what) for one, other in zip(slow, quick, strict=True)]
    return spread(ratios, 2)


def spread(values: list[float], digits: int = 2) -> str:
    """The median and, of more than one value, the quartiles."""
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle} ({low:.{digits}f} to {high:.{digits}f})"


def count(number: int, what: str) -> str:
    """How many of them, in words: `1 round`, `2 rounds`, `2 processes`."""
    return f"{number} {what}{'' if number == 1 else 'es' if what.endswith('s') else 's'}"


def load() -> str:
    """What else the machine does."""
    return f"load {os.getloadavg()[0]:.0f} on {os.cpu_count()} cores"


def _processor_seconds() -> float:
    """User and system time in seconds that this process and all its child processes have used so far.

    Children that still run count too, such as workers of a data loader.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() + ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = child.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds
