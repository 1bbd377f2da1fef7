"""Conventional command lines for jsonargparse: `--lists a b`, `--flag` alone, `--short-side` with a hyphen."""

import inspect
import itertools
import json
import os
import re
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

from datamodules.storage.plain_text import is_utf8
from pipeline.cli.errors import suggest

_SYNTAX_HELP = (
    "What the usage shows without an option may be given by its option, too. Options may have hyphens or underscores; "
    "one of type bool alone means true; one that takes a list takes values up to the next option."
)
_BOOLEAN_VALUES = ("true", "false", "yes", "no", "null", "none")


def hyphenate_options(text: str) -> str:
    """Write options with hyphens, as the documentation does; dotted ones, of configuration files, keep underscores.

    >>> hyphenate_options("--short_side SHORT_SIDE, or --data.init_args.root ROOT")
    '--short-side SHORT_SIDE, or --data.init_args.root ROOT'
    """
    return re.sub(r"(?<![\w.-])--[a-z0-9]+(?:_[a-z0-9]+)+(?![\w.])", lambda match: match[0].replace("_", "-"), text)


def expand_option_names(function: Callable[..., Any], arguments: Sequence[str]) -> list[str]:
    """Rewrite the arguments of a command in the syntax of jsonargparse.

    Args:
        function: The typed function or dataclass that is called; its annotations determine which options are lists or
            flags.
        arguments: The arguments after the verb.

    Returns:
        The arguments with `--lists a b` as `--lists+=a --lists+=b` where `lists` is of type list, `--sides 1 2` as
        `--sides=[1,2]` where `sides` is `int | list[int]`, `--flag` alone as `--flag=true` where `flag` is of type
        bool, and hyphens in option names as underscores. Positional arguments are assigned to the parameters without a
        default, in their order; a list takes all remaining ones. After `--` all arguments are positional, even if they
        begin with a hyphen.

    >>> def example(data: str, lists: list[str], flag: bool = False, short_side: int = 1) -> None: ...
    >>> expand_option_names(example, ["folder", "a", "b", "--flag", "--short-side", "128", "--other-word=c"])
    ['--flag=true', '--short_side', '128', '--other-word=c', '--data=folder', '--lists+=a', '--lists+=b']
    """
    hints = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters
    kinds = {f"--{name}": _option_kind(hints.get(name)) for name in parameters}
    required = [f"--{name}" for name, each in parameters.items() if each.default is each.empty]
    expanded: list[str] = []
    positional: list[str] = []
    remaining = list(arguments)
    while remaining:
        option, equals, value = remaining.pop(0).partition("=")
        if option == "--" and not equals:  # ends the options, as in other commands
            positional += remaining
            break
        if not option.startswith("-") or option == "-":  # - alone is standard input, a value
            (positional if required else expanded).append(f"{option}{equals}{value}")
            continue
        with_underscores = option.replace("-", "_").replace("__", "--", 1)
        if with_underscores in kinds or with_underscores == "--print_config":
            option = with_underscores
        if equals and kinds.get(option) is list and not _is_list(value):
            expanded.append(_append_value(option, value))
        elif equals or option in ("-h", "--help", "--print_config"):
            expanded.append(f"{option}{equals}{value}")
        elif kinds.get(option) is bool and (not remaining or remaining[0].lower() not in _BOOLEAN_VALUES):
            expanded.append(f"{option}=true")
        elif kinds.get(option) is int and len(remaining) > 1 and remaining[0].isdigit() and remaining[1].isdigit():
            numbers = list(itertools.takewhile(str.isdigit, remaining))
            del remaining[: len(numbers)]
            expanded.append(f"{option}=[{','.join(numbers)}]")
        else:
            expanded += _take_values(option, remaining, greedy=kinds.get(option) is list)
    present = {argument.partition("=")[0].rstrip("+") for argument in expanded}
    return expanded + _name_positional(positional, [option for option in required if option not in present], kinds)


def _take_values(option: str, remaining: list[str], greedy: bool) -> list[str]:
    """The option with its value or, if `greedy`, all values up to the next option; removes them from `remaining`."""
    values: list[str] = []
    while remaining and not remaining[0].startswith("--") and (greedy or not values):
        values.append(remaining.pop(0))
    if greedy and values and not _is_list(values[0]):
        return [_append_value(option, value) for value in values]
    return [option, *values]


def _name_positional(positional: list[str], options: list[str], kinds: dict[str, type | None]) -> list[str]:
    """Positional arguments as options; surplus ones stay as they are, for jsonargparse to refuse."""
    if not positional or not options:
        return positional
    if kinds[options[0]] is list:
        return [_append_value(options[0], value) for value in positional]
    return [f"{options[0]}={positional[0]}", *_name_positional(positional[1:], options[1:], kinds)]


def _is_list(value: str) -> bool:
    """Whether jsonargparse reads a value as a list; `[Group] name.mp4` is a file name."""
    return value.startswith("[") and value.endswith("]")


def _append_value(option: str, value: str) -> str:
    """Appends a value to a list option; in quotes where jsonargparse would read it as a list or a request for help."""
    quoted = value[:1] in ("[", "?") or value == "-"  # - alone is an empty list in YAML
    return f"{option}+={json.dumps([value], ensure_ascii=False) if quoted else value}"


def call_from_command_line(function: Callable[..., Any], arguments: Sequence[str], prog: str) -> Any:
    """Call a typed function with the arguments of a command line.

    Args:
        function: A function whose parameters are the options, or whose only parameter is a dataclass of the options; or
            such a dataclass itself.
        arguments: The arguments after the verb.
        prog: The name of the command in its help.

    Returns:
        The function's result; for a dataclass, its instance.

    Raises:
        ArgumentError: An option is missing, or of the wrong type.
        ValueError: An option is unknown; the message names the nearest one.
        SystemExit: Help was requested, and is printed.
    """
    from jsonargparse import auto_cli

    from pipeline.cli.option_groups import options_class, parser_with_appendix

    for argument in arguments:
        if not is_utf8(argument):
            raise ValueError(
                f"{os.fsencode(argument)!r} is not UTF-8; rename the file or folder, or name the folder above it"
            )
    options = options_class(function)
    component = options or function
    expanded = expand_option_names(component, arguments)
    _refuse_unknown_options(component, expanded, prog)
    settings: dict[str, Any] = {"as_positional": False, "exit_on_error": False, "allow_abbrev": False}
    settings |= {"prog": prog, "usage": usage_of(component, prog), "epilog": _SYNTAX_HELP}
    if options is not None:
        settings["description"] = (inspect.getdoc(function) or "").partition("\n\n")[0]
    parser = parser_with_appendix(options, arguments)
    parsed = auto_cli(component, args=expanded, parser_class=parser, return_instance=True, **settings)
    return parsed if options in (None, function) else function(parsed)


def usage_of(function: Callable[..., Any], prog: str) -> str:
    """The usage line of a command: its required arguments, positional where possible.

    >>> def example(data: str, lists: list[str], out: str, flag: bool = False) -> None: ...
    >>> usage_of(example, "python -m example")
    'python -m example DATA LISTS ... --out OUT [options]'
    """
    hints = typing.get_type_hints(function)
    parts, is_positional = [prog], True
    for name, each in inspect.signature(function).parameters.items():
        if each.default is not each.empty:
            continue
        is_list = _option_kind(hints.get(name)) is list
        value = f"{name.upper()} ..." if is_list else name.upper()
        parts.append(value if is_positional else f"--{name} {value}")
        is_positional = is_positional and not is_list  # a list takes all remaining arguments
    return " ".join([*parts, "[options]"])


def _refuse_unknown_options(function: Callable[..., Any], expanded: Sequence[str], prog: str) -> None:
    valid = [*inspect.signature(function).parameters, "help", "config", "print_config"]
    for argument in expanded:
        name = argument.partition("=")[0].rstrip("+").removeprefix("--").partition(".")[0]
        if argument.startswith("--") and name not in valid:
            options = [option.replace("_", "-") for option in valid]
            hint = suggest(name.replace("_", "-"), options, f"`{prog} --help` lists them", "--{}".format)
            raise ValueError(f"there is no option --{name}; {hint}")


def _option_kind(hint: Any) -> type | None:
    """The kind of a type hint: `list` or `bool`, also with `| None`; `int` for `int | list[int]`; else None."""
    union = typing.get_origin(hint) in (types.UnionType, typing.Union)
    members = typing.get_args(hint) if union else (hint,)
    if int in members and list[int] in members:
        return int
    for member in members:
        if member is bool or typing.get_origin(member) is list:
            return bool if member is bool else list
    return None
