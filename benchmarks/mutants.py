"""Mutation testing: how many small faults in a module do its tests notice?

    pip install mutmut
    python benchmarks/mutants.py datamodules/sampling/*.py --tests tests/datamodules/sampling

The operators of mutmut change a number, an operator, a condition, an argument or a value of a module, in a copy of the
repository; of many mutants a random sample is tried, arithmetic and branches more often than strings. Messages, imports
and annotations are not changed. A mutant that no test notices is printed as a diff: either a test is missing, or the
mutant does the same as the code. With `--out` outcomes are kept, and the same command tries again what was not noticed,
with the tests as they are by then.

A mutant costs the time of its tests alone. A process imports everything and collects the tests; each mutant is a fork
of it, which gives the functions that differ their new code, and runs the tests of the changed lines, the quickest
first, then the others of those files. What differs outside of functions is tried by importing the mutant.
"""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.mutation.drawing import draw_mutants  # noqa: E402 - found by the line above
from benchmarks.mutation.trial import Trial, copy_repository, try_mutants  # noqa: E402


class Outcomes:
    """Whether each mutant was noticed, by module and difference; kept as lines of JSON, of which the last counts."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path and path.is_file() else []
        self.noticed: dict[tuple[str, str], bool] = {}
        for module, difference, noticed in map(json.loads, lines):
            self.noticed[module, difference] = noticed

    def add(self, trial: Trial, noticed: bool) -> None:
        """Keeps an outcome, and prints the mutant that no test noticed."""
        self.noticed[trial.module, trial.mutant.difference] = noticed
        if self._path:
            with self._path.open("a") as file:
                print(json.dumps([trial.module, trial.mutant.difference, noticed]), file=file)
        if not noticed:
            print(f"{trial.module} {trial.mutant.difference}\n", flush=True)

    def print_table(self, modules: list[str]) -> None:
        """Prints how many mutants of each module were tried and noticed."""
        tried = Counter(module for module, _ in self.noticed)
        noticed = Counter(module for (module, _), seen in self.noticed.items() if seen)
        print("| module | mutants | noticed |\n| --- | --- | --- |")
        for module in modules:
            print(f"| {module} | {tried[module]} | {noticed[module]} |")


def draw_trials(modules: list[str], count: int | None, seed: int, outcomes: Outcomes) -> list[Trial]:
    """The mutants of some modules that no test is known to notice."""
    trials: list[Trial] = []
    for module in modules:
        source = (REPOSITORY / module).read_text()
        for mutant in draw_mutants(source, count, seed):
            if not outcomes.noticed.get((module, mutant.difference)):
                trials.append(Trial(module, source, mutant, len(trials) + 1))
    return trials


def main() -> None:
    """Prints the mutants that no test noticed, and how many were noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+", help="files, relative to the repository")
    parser.add_argument("--tests", nargs="+", required=True, help="their tests, as pytest takes them")
    parser.add_argument("--count", type=int, help="mutants to draw of each module; default: all")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument("--out", type=Path, help="file of outcomes, read if it exists; *.jsonl")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    outcomes = Outcomes(options.out and options.out.absolute())
    trials = draw_trials(options.modules, options.count, options.seed, outcomes)
    print(f"{len(trials)} mutants", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        copy_repository(REPOSITORY, Path(temporary))
        os.chdir(temporary)
        sys.path[0] = os.environ["PYTHONPATH"] = temporary
        if trials:
            try_mutants(trials, options.tests, outcomes.add)
        os.chdir(REPOSITORY)
    outcomes.print_table(options.modules)


if __name__ == "__main__":
    main()
