"""Tests that are collected once and run in forks: one measures which test runs which line, the others have a mutant."""

import itertools
import json
import os
import resource
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# -s: where output is captured, the dots of pytest go to the terminal also from a fork whose output is not wanted.
OPTIONS = ("-q", "-s", "-m", "not slow and not gpu", "-p", "no:cacheprovider", "--timeout=0")


@dataclass
class TestCoverage:
    """Which tests run which lines.

    Attributes:
        seconds: processor time of each test, by its node id.
        tests: node ids of the tests that run a line, by file and number of the line; "" stands for no test.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    tests: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def quickest_first(self, file: str, lines: Iterable[int]) -> list[str]:
        """The tests that run any of these lines of a file."""
        found = {test for line in lines for test in self.tests.get(file, {}).get(str(line), ())} - {""}
        return sorted(found, key=self.seconds.__getitem__)

    def of_files_like(self, tests: Sequence[str], limit_s: float) -> list[str]:
        """The quickest tests of the files that have these tests, `limit_s` seconds of them.

        What a test did not run itself, the fixtures of its file may have run, for another one.
        """
        files = {test.split("::")[0] for test in tests}
        found = sorted((test for test in self.seconds if test.split("::")[0] in files), key=self.seconds.__getitem__)
        spent = itertools.accumulate(self.seconds[test] for test in found)
        return [test for test, seconds in zip(found, spent, strict=True) if seconds <= limit_s]


class ForkedTests:
    """A plugin of pytest that calls `task` with itself where pytest would run the tests that it has collected.

    `task` runs tests in forks; the first one that fails ends the fork with status 1.
    """

    def __init__(self, task: Callable[["ForkedTests"], None]) -> None:
        self._task = task
        self._items: dict[str, pytest.Item] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        """Has Hypothesis draw the same examples in every fork, and not look for the smallest one that fails."""
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", deadline=None, database=None, derandomize=True, phases=phases)
        settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Keeps the collected tests, and hands over."""
        self._items = {item.nodeid: item for item in session.items}
        self._task(self)
        return True

    @staticmethod
    def pytest_runtest_logreport(report: pytest.TestReport) -> None:
        """Ends the fork at the first test that fails."""
        if report.failed:
            os._exit(1)

    def run(self, tests: Sequence[str] | None = None, before: Callable[[str], None] = lambda test: None) -> int:
        """Runs tests, or all of them, in this process. Returns 0, as it ends where one fails."""
        items = list(self._items.values()) if tests is None else [self._items[test] for test in tests]
        for item, following in zip(items, [*items[1:], None], strict=True):
            before(item.nodeid)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        return 0

    def measure_coverage(self, files: Sequence[str], answer: Path) -> int:
        """Runs all tests, and writes the `TestCoverage` of these files as JSON."""
        import coverage

        tracer, starts = coverage.Coverage(data_file=None, include=list(files)), {}

        def begin(test: str) -> None:
            tracer.switch_context(test)
            starts[test] = time.process_time()

        tracer.start()
        self.run(before=begin)
        tracer.stop()
        ends = [*list(starts.values())[1:], time.process_time()]
        seconds = {test: end - start for (test, start), end in zip(starts.items(), ends, strict=True)}
        tests = {file: tracer.get_data().contexts_by_lineno(file) for file in files}
        answer.write_text(json.dumps({"seconds": seconds, "tests": tests}))
        return 0


def run_in_fork(task: Callable[[], int], processor_s: float) -> int:
    """Runs a function in a fork of this process, without its output.

    Args:
        task: the function; what it returns is the fork's exit status.
        processor_s: processor time after which the fork is ended; by the clock it has ten times as much, and a minute.

    Returns:
        The exit status; a negative number where the fork was ended.
    """
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        resource.setrlimit(resource.RLIMIT_CPU, (int(processor_s) + 1,) * 2)
        status = 1
        try:
            status = task()
        finally:
            os._exit(status)
    end = time.monotonic() + 60 + 10 * processor_s
    done, status = os.waitpid(child, os.WNOHANG)
    while not done and time.monotonic() < end:
        time.sleep(0.01)
        done, status = os.waitpid(child, os.WNOHANG)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # the fork, or the processes that it left
    if not done:
        _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
