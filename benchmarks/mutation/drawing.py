"""Mutants of a module: its source with one small fault, made by the operators of mutmut and two more."""

import difflib
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

# Where a module has more mutants than are tried, operators with a large weight are drawn more often. Those that are not
# listed have 3: numbers, arithmetic, comparisons, branches.
WEIGHTS = {"operator_arg_removal": 1.5, "operator_lambda": 1, "operator_string": 0.7, "operator_assignment": 0.4}


@dataclass(frozen=True)
class Mutant:
    """A module with one fault.

    Attributes:
        source: the whole text of the module.
        lines: numbers of the lines of the original that the fault changes, from 1.
        difference: those lines before and after, as a diff without context.
    """

    source: str
    lines: tuple[int, ...]
    difference: str


def draw_mutants(source: str, count: int | None, seed: int) -> list[Mutant]:
    """Makes the mutants of a module, or a sample of `count` of them; the same ones for the same source and seed."""
    import libcst as cst

    module, draw = cst.parse_module(source), random.Random(seed)
    changes = [(draw.random() ** (1 / WEIGHTS.get(name, 3)), node, new) for name, node, new in _changes(module)]
    texts: dict[str, None] = {}
    for _, node, new in sorted(changes, key=lambda change: -change[0]):
        if count is not None and len(texts) == count:
            break
        text = module.deep_replace(node, new).code
        if text != source and _compiles(text):
            texts[text] = None
    return [_describe(source, text) for text in texts]


def _changes(node: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yields the name of an operator, the node of the syntax tree that it changes, and what it makes of it.

    Messages of errors, imports, annotations, decorators and docstrings stay as they are.
    """
    import libcst as cst
    from mutmut.mutation.mutators import mutation_operators

    left_out = (cst.Annotation, cst.Raise, cst.Import, cst.ImportFrom, cst.Assert, cst.Decorator)
    if isinstance(node, left_out) or (isinstance(node, cst.Expr) and isinstance(node.value, cst.SimpleString)):
        return
    own: list[tuple[type, Callable[[Any], Iterable[Any]]]] = [(cst.If, negate_condition), (cst.Expr, remove_call)]
    for kind, operator in [*mutation_operators, *own]:
        if isinstance(node, kind):
            for new in operator(node):
                yield operator.__name__, node, new
    for child in node.children:
        yield from _changes(child)


def negate_condition(node: Any) -> Iterator[Any]:
    """`if a:` becomes `if not (a):`; of conditions mutmut changes the operators alone."""
    import libcst as cst

    test = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    yield node.with_changes(test=cst.UnaryOperation(operator=cst.Not(), expression=test))


def remove_call(node: Any) -> Iterator[Any]:
    """A call whose result nobody takes is left out."""
    import libcst as cst

    if isinstance(node.value, cst.Call):
        yield node.with_changes(value=cst.Ellipsis())


def _compiles(text: str) -> bool:
    try:
        compile(text, "mutant", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True


def _describe(source: str, text: str) -> Mutant:
    old, new = source.splitlines(), text.splitlines()
    lines: list[int] = []
    for tag, first, end, _, _ in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag != "equal":
            lines += range(first + 1, max(end, first + 1) + 1)
    difference = list(difflib.unified_diff(old, new, n=0, lineterm=""))[2:]
    return Mutant(text, tuple(lines), "\n".join(difference))
