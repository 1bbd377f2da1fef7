"""The mutants of benchmarks/mutants.py take the place of functions that others hold already."""

import importlib.util

import pytest

from benchmarks.mutation.replacement import NotInFunctionsError, replace_functions

SOURCE = '''"""A module."""
import functools

LIMIT = 5


def add(a, b=2):
    """A function."""
    return a + b


class Scale:
    by = 3

    def __init__(self):
        self.offset = (lambda x: x + 1)(0)

    @property
    def double(self):
        return [2 * self.by for _ in range(2)]


@functools.cache
def limited(x):
    return min(x, LIMIT)
'''


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "mutated.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("mutated", path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize(
    ("old", "new", "value", "expected"),
    [("a + b", "a - b", lambda m, add: add(1), -1),
     ("2 * self.by", "4 + self.by", lambda m, add: m.Scale().double, [7, 7]),
     ("x + 1", "x + 8", lambda m, add: m.Scale().offset, 8),
     ("(x, LIMIT)", "(x, 4)", lambda m, add: m.limited(9), 4)],
)  # fmt: skip
def test_functions_that_others_hold_get_the_code_of_a_mutant(module, old, new, value, expected):
    held = module.add
    assert value(module, held) != expected
    module.limited.cache_clear()
    replace_functions(module.__file__, SOURCE, SOURCE.replace(old, new))
    assert value(module, held) == expected


@pytest.mark.parametrize(("old", "new"), [("LIMIT = 5", "LIMIT = 6"), ("b=2", "b=3"), ("by = 3", "by = 4")])
def test_what_the_import_runs_has_to_be_imported(module, old, new):
    with pytest.raises(NotInFunctionsError):
        replace_functions(module.__file__, SOURCE, SOURCE.replace(old, new))
