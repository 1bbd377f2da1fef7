"""Mutation testing: how many small faults in a module do its tests notice?

    pip install mutmut
    python benchmarks/mutants.py datamodules/sampling/crop_windows.py --tests tests/datamodules/sampling

The operators of mutmut change a number, an operator, a condition, an argument or a value of the module. Of all that
they give, a random sample is tried in a copy of the repository, arithmetic and branches more often than strings: the
tests run until the first one fails. A mutant that none notices is printed as a diff: either a test is missing, or the
mutant does the same as the code. Messages, imports and annotations are not changed. Each mutant is a fork of a process
that has imported torch already.
"""

import argparse
import difflib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
# Of mutmut's operators, those that are not listed have the weight 3: numbers, arithmetic, comparisons, branches.
WEIGHTS = {"operator_arg_removal": 1.5, "operator_lambda": 1, "operator_string": 0.7, "operator_assignment": 0.4}


def sample_mutants(source: str, count: int, seed: int) -> list[str]:
    """Draws mutants of a module, each its whole text."""
    import libcst as cst
    from mutmut.mutation.mutators import mutation_operators

    module, draw = cst.parse_module(source), random.Random(seed)

    def all_mutants(node: Any) -> Iterator[tuple[float, Any, Any]]:
        left_out = (cst.Annotation, cst.Raise, cst.Import, cst.ImportFrom, cst.Assert, cst.Decorator)
        if isinstance(node, left_out) or (isinstance(node, cst.Expr) and isinstance(node.value, cst.SimpleString)):
            return
        for kind, operator in mutation_operators:
            if isinstance(node, kind):
                for mutated in operator(node):
                    yield draw.random() ** (1 / WEIGHTS.get(operator.__name__, 3)), node, mutated
        for child in node.children:
            yield from all_mutants(child)

    found: dict[str, None] = {}
    for _, node, mutated in sorted(all_mutants(module), key=lambda one: -one[0]):
        if len(found) == count:
            break
        text = module.deep_replace(node, mutated).code
        if text != source and _compiles(text):
            found[text] = None
    return list(found)


def _compiles(text: str) -> bool:
    try:
        compile(text, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def copy_repository(folder: Path) -> None:
    """Copies what git tracks, and what it does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, folder / name)


def is_noticed(folder: Path, tests: list[str], limit_s: float) -> bool:
    """Runs tests in a fork of this process, in `folder`; one that takes too long has noticed too."""
    child = os.fork()
    if child == 0:
        import pytest

        os.setpgid(0, 0)
        os.chdir(folder)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        quiet = ["-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--timeout=0"]
        os._exit(int(pytest.main([*quiet, *tests])))
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) != 0
        time.sleep(0.02)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def print_difference(source: str, mutant: str) -> None:
    """Prints the lines that differ."""
    for line in difflib.unified_diff(source.splitlines(), mutant.splitlines(), "module", "mutant", "", "", 0, ""):
        if not line.startswith(("---", "+++")):
            print(f"  {line}", flush=True)


def main() -> None:
    """Prints the mutants that no test noticed, and how many were noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", type=Path, help="the module, relative to the repository")
    parser.add_argument("--tests", nargs="+", required=True, help="its tests, as pytest takes them")
    parser.add_argument("--count", type=int, default=40, help="mutants to draw")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    parser.add_argument("--limit-s", type=float, default=120, help="seconds after which tests are ended")
    options = parser.parse_args()
    sys.dont_write_bytecode = True  # a mutant may be as long as the module, and as old
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    source = (REPOSITORY / options.module).read_text()
    mutants = sample_mutants(source, options.count, options.seed)
    import pytorch_lightning  # noqa: F401 - once, before the forks

    noticed = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        copy_repository(folder)
        if is_noticed(folder, options.tests, options.limit_s):
            sys.exit("the tests fail, or take longer than --limit-s, as they are")
        for mutant in mutants:
            (folder / options.module).write_text(mutant)
            if is_noticed(folder, options.tests, options.limit_s):
                noticed += 1
            else:
                print_difference(source, mutant)
    print(f"{options.module}: {noticed} of {len(mutants)} mutants noticed")


if __name__ == "__main__":
    main()
