"""Sections of a benchmark, of which one crashes, one raises and one hangs after its first row."""

import os
import signal
import time

from benchmarks.gpu_checks.results import Goal, Results, Settings


def works(settings: Settings, results: Results) -> None:
    print("a line for the log")
    results.add("how much", "3.0 clips/s", 3.0, Goal(2.0, "clips/s"))


def crashes(settings: Settings, results: Results) -> None:
    results.add("before the crash", "measured")
    os.kill(os.getpid(), signal.SIGSEGV)


def raises(settings: Settings, results: Results) -> None:
    raise ValueError("a | of\ntwo lines")


def hangs(settings: Settings, results: Results) -> None:
    time.sleep(1000)


def reads_earlier_rows(settings: Settings, results: Results) -> None:
    results.add("twice as much", f"{2 * (results.value('how much') or 0):.1f}")
