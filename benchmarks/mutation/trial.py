"""Trial of mutants in a copy of the repository: in forks of a process that imported everything, or by an import."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from benchmarks.mutation.drawing import Mutant
from benchmarks.mutation.forked_tests import OPTIONS, ForkedTests, TestCoverage, run_in_fork
from benchmarks.mutation.replacement import NotInFunctionsError, replace_functions

NOTICED, SURVIVED, NEEDS_IMPORT = b"n", b"s", b"i"  # answers of the child that has everything imported
NOT_IN_FUNCTIONS = 77  # exit status of a fork that cannot have the mutant without importing it
LIMIT_S = 20  # processor time of tests that may notice a mutant though they do not run its lines themselves
COVERAGE, IMPORTED = Path("coverage.json"), Path("imported.json")  # what the child found out


@dataclass(frozen=True)
class Trial:
    """One mutant of one module of the copy.

    Attributes:
        module: path of the module, relative to the repository.
        source: its text.
        mutant: the mutant.
        number: different for each trial of a run, from 1.
    """

    module: str
    source: str
    mutant: Mutant
    number: int

    def write(self) -> None:
        """Puts the mutant into the copy, for processes that tests start.

        Cached bytecode is recognized by size and time, so each mutant is of another second.
        """
        Path(self.module).write_text(self.mutant.source)
        os.utime(self.module, (self.number, self.number))

    def restore(self) -> None:
        """Puts the module back."""
        Path(self.module).write_text(self.source)


def copy_repository(repository: Path, folder: Path) -> None:
    """Copies what git tracks, and what it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=repository, capture_output=True, check=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (repository / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(repository / name, folder / name)


def try_mutants(trials: Sequence[Trial], tests: Sequence[str], report: Callable[[Trial, bool], None]) -> None:
    """Reports of each mutant whether a test notices it. The current folder is the copy of the repository.

    Raises:
        SystemExit: the tests fail without a mutant.
    """
    left = _try_all_without_import(trials, tests, report)
    _import_libraries(json.loads(IMPORTED.read_text()))
    coverage = TestCoverage(**json.loads(COVERAGE.read_text()))
    for trial in left:
        report(trial, _try_by_import(trial, coverage))


def _try_all_without_import(
    trials: Sequence[Trial], tests: Sequence[str], report: Callable[[Trial, bool], None]
) -> list[Trial]:
    """Tries mutants in a child that collects the tests, and returns those that have to be imported."""
    import pytest

    read_end, write_end = os.pipe()

    def answer_each(collected: ForkedTests) -> None:
        coverage = _measure(collected, {trial.module for trial in trials})
        IMPORTED.write_text(json.dumps(list(sys.modules)))
        for trial in trials:
            os.write(write_end, _try_without_import(trial, collected, coverage))

    child = os.fork()
    if child == 0:
        os._exit(int(pytest.main([*OPTIONS, *tests], plugins=[ForkedTests(answer_each)])))
    os.close(write_end)
    left = []
    for trial in trials:
        answer = os.read(read_end, 1)
        if answer == NEEDS_IMPORT:
            left.append(trial)
        elif answer:
            report(trial, answer == NOTICED)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0:
        sys.exit("the tests fail as they are")
    return left


def _measure(collected: ForkedTests, files: Iterable[str]) -> TestCoverage:
    paths = [str(Path(file).absolute()) for file in files]
    if run_in_fork(lambda: collected.measure_coverage(paths, COVERAGE.absolute()), 3600) != 0:
        sys.exit("the tests fail as they are")
    return TestCoverage(**json.loads(COVERAGE.read_text()))


def _try_without_import(trial: Trial, collected: ForkedTests, coverage: TestCoverage) -> bytes:
    """Runs the tests of the changed lines, then others of their files."""
    path = str(Path(trial.module).absolute())
    tests = coverage.quickest_first(path, trial.mutant.lines)
    if not tests:
        return NEEDS_IMPORT
    tests += [test for test in coverage.of_files_like(tests, LIMIT_S) if test not in tests]

    def run() -> int:
        try:
            replace_functions(path, trial.source, trial.mutant.source)
        except NotInFunctionsError:
            return NOT_IN_FUNCTIONS
        return collected.run(tests)

    trial.write()
    status = run_in_fork(run, 5 + 4 * sum(coverage.seconds[test] for test in tests))
    trial.restore()
    return {0: SURVIVED, NOT_IN_FUNCTIONS: NEEDS_IMPORT}.get(status, NOTICED)


def _try_by_import(trial: Trial, coverage: TestCoverage) -> bool:
    import pytest

    module = str(Path(trial.module).absolute())
    lines = [int(line) for line in coverage.tests.get(module, {})]
    tests = coverage.of_files_like(coverage.quickest_first(module, lines), LIMIT_S)

    def run() -> int:
        sys.dont_write_bytecode = True
        plugin = ForkedTests(lambda collected: os._exit(collected.run()))
        return int(pytest.main([*OPTIONS, *tests], plugins=[plugin]))

    trial.write()
    status = run_in_fork(run, 30 + 4 * sum(coverage.seconds[test] for test in tests)) if tests else 0
    trial.restore()
    return status != 0


def _import_libraries(names: Sequence[str]) -> None:
    """Imports what the tests import, but for the repository's own modules, which are imported with a mutant."""
    own = {path.stem for path in Path.cwd().iterdir()}
    for name in names:
        if name.partition(".")[0] not in own:
            with suppress(Exception):
                import_module(name)
