"""Replacement of the code of functions in a process that has imported them, wherever they are referred to."""

import gc
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType


class NotInFunctionsError(Exception):
    """What differs is not in the code of functions alone: it is run by the import of the module."""


def replace_functions(path: str, source: str, mutant: str) -> None:
    """Gives the functions of an imported module the code of a mutant.

    Every function object made from the module gets it, so names that other modules imported and wrapped functions too.

    Args:
        path: the file that the module was imported from.
        source: its text.
        mutant: the text of the mutant.

    Raises:
        NotInFunctionsError: the mutant has to be imported, as it differs in what the import runs (constants, defaults,
            bodies of classes), or in variables that a function shares with others.
    """
    # type(): isinstance asks some objects of torch for their class, which warn that they are deprecated.
    functions = [one for one in gc.get_objects() if type(one) is FunctionType and one.__code__.co_filename == path]
    for old, new in list(_differing(compile(source, path, "exec"), compile(mutant, path, "exec"))):
        changed = [one for one in functions if _place(one.__code__) == _place(old)]
        if not changed and "<locals>" not in old.co_qualname:
            raise NotInFunctionsError
        for function in changed:
            if old.co_freevars != new.co_freevars:
                raise NotInFunctionsError
            function.__code__ = new


def _place(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _differing(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Yields the functions that differ, each in both forms, outer ones first."""
    inner = [[one for one in code.co_consts if isinstance(one, CodeType)] for code in (old, new)]
    is_function = bool(old.co_flags & inspect.CO_NEWLOCALS)
    if _own_code(old) != _own_code(new) or len(inner[0]) != len(inner[1]):
        if not is_function:
            raise NotInFunctionsError
        yield old, new
        return
    below = [pair for pair_of_inner in zip(*inner, strict=True) for pair in _differing(*pair_of_inner)]
    if below and is_function:
        yield old, new
    yield from below


def _own_code(code: CodeType) -> tuple[object, ...]:
    """All that a code object does, but not its line numbers, and not the functions in it."""
    constants = tuple((type(one), repr(one)) if not isinstance(one, CodeType) else None for one in code.co_consts)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
    return code.co_code, constants, names, code.co_flags, code.co_argcount, code.co_kwonlyargcount
