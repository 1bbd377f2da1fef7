"""Command lines as people type them, for jsonargparse: `--lists a b`, `--flag` alone, `--short-side` with a hyphen."""

import inspect
import re
import types
import typing
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from typing import Any


def spell_out(function: Callable[..., Any], words: Sequence[str]) -> list[str]:
    """Write the words of a command so that jsonargparse takes them.

    Args:
        function: The typed function that the words are for; its parameters say which options are lists or flags.
        words: What was typed after the verb.

    Returns:
        The same, with `--lists a b` as `--lists+=a --lists+=b` where `lists` is of type list, `--flag` alone as
        `--flag=true` where `flag` is of type bool, and hyphens in an option's name as underscores; all other words as
        they are.

    >>> def example(lists: list[str], flag: bool = False, short_side: int = 1) -> None: ...
    >>> spell_out(example, ["--lists", "a", "b", "--flag", "--short-side", "128", "--other-word=c"])
    ['--lists+=a', '--lists+=b', '--flag=true', '--short_side', '128', '--other-word=c']
    """
    hints = typing.get_type_hints(function)
    kinds = {f"--{name}": _kind(hints.get(name)) for name in inspect.signature(function).parameters}
    spelled: list[str] = []
    waiting = list(words)
    while waiting:
        option, equals, value = waiting.pop(0).partition("=")
        if option.replace("-", "_").replace("__", "--", 1) in kinds:
            option = option.replace("-", "_").replace("__", "--", 1)
        values = []
        while kinds.get(option) is list and not equals and waiting and not waiting[0].startswith("--"):
            values.append(waiting.pop(0))
        if values and not values[0].startswith("["):
            spelled += [f"{option}+={one}" for one in values]
        elif kinds.get(option) is bool and not equals and (not waiting or waiting[0].startswith("-")):
            spelled.append(f"{option}=true")
        else:
            spelled += [f"{option}{equals}{value}", *values]
    return spelled


def call_with_words(function: Callable[..., Any], words: Sequence[str], prog: str) -> Any:
    """Call a typed function with what was typed on a command line.

    Args:
        function: Its parameters are the options.
        words: What was typed after the verb.
        prog: What the help calls the command.

    Returns:
        What the function returns.

    Raises:
        ArgumentError: An option is not known, missing, or of the wrong type.
        SystemExit: The words asked for help, which is printed.
    """
    from jsonargparse import auto_cli

    options: dict[str, Any] = {"prog": prog, "as_positional": False, "exit_on_error": False, "allow_abbrev": False}
    return auto_cli(function, args=spell_out(function, words), **options)


def _kind(hint: Any) -> type | None:
    """`list` or `bool` where a parameter of that type, or None, is meant; else None."""
    members = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for member in members:
        if member is bool or typing.get_origin(member) is list:
            return bool if member is bool else list
    return None


def explain(error: BaseException) -> str:
    """One line that says what was wrong with a command.

    jsonargparse wraps what went wrong in the types it tried; the sentence that helps is that of the innermost error.

    Args:
        error: what the command raised.

    Returns:
        The error's own message; of one that jsonargparse wrapped, the option and the innermost message.
    """
    message = str(error)
    wrapped = isinstance(error, ArgumentError) or "Union subtypes" in message or "Call to compute_fn" in message
    innermost = error
    while wrapped and innermost.__cause__ is not None:
        innermost = innermost.__cause__
    text = " ".join(str(innermost).split())
    option = re.match(r'Parser key "([^"]+)"', message)
    return f"{option[1]}: {text}" if option and not text.startswith("Parser key") else text
