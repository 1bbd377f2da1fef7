"""Checks configuration files on a command line before they are parsed, so that errors name the file and the line."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml


def refuse_bad_configs(arguments: Sequence[str]) -> None:
    """Raises ValueError for a `--config` that is no file, no YAML, or YAML that is no mapping of options.

    Args:
        arguments: the command line; a config given as text instead of a path is not checked here.
    """
    for config in _config_values(arguments):
        path = Path(config)
        if "\n" in config or config.lstrip().startswith("{"):
            continue
        if not path.is_file():
            raise ValueError(f"config={config}: {_describe_missing_file(path)}; name a YAML file")
        content = read_yaml_file(path, "config")
        if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
            actual = "nothing" if content is None else f"a {type(content).__name__}"
            actual = "keys that are no names" if isinstance(content, dict) else actual
            raise ValueError(f"config={config}: must hold options such as `model:` and `data:`, and holds {actual}")


def given_options(arguments: Sequence[str], group: Sequence[str]) -> set[str]:
    """The names of the options of a group that a command line or its configuration files set.

    Args:
        arguments: the command line.
        group: keys that lead to the options, such as `("data", "init_args")`.
    """
    names: set[str] = set()
    prefixes = [f"--{'.'.join(group)}.", f"--{group[0]}."]
    for argument in arguments:
        option = argument.partition("=")[0]
        names |= {option.removeprefix(prefix) for prefix in prefixes if option.startswith(prefix)}
    for config in _config_values(arguments):
        for part in _entries(config, group):
            names |= set(part) if isinstance(part, dict) else set()
    return names


def given_value(arguments: Sequence[str], option: Sequence[str]) -> Any:
    """The value that a command line or its configuration files set last for an option; None where none does.

    Args:
        arguments: the command line.
        option: keys that lead to it, such as `("trainer", "strategy")`.
    """
    given = None
    for argument, following in itertools.pairwise([*arguments, ""]):
        name, equals, value = argument.partition("=")
        if name == f"--{'.'.join(option)}":
            given = value if equals else following
        for config in _config_values([argument, following]):
            given = next((part for part in _entries(config, option) if part is not None), given)
    return given


def _entries(config: str, keys: Sequence[str]) -> Iterator[Any]:
    """What a configuration, file or text, has under keys, at its top and below the name of a verb; None for nothing."""
    is_text = "\n" in config or config.lstrip().startswith("{")
    content: Any = yaml.safe_load(config if is_text else Path(config).read_text(encoding="utf-8"))
    for part in (content, *(content.values() if isinstance(content, dict) else ())):
        for key in keys:
            part = part.get(key) if isinstance(part, dict) else None
        yield part


def read_yaml_file(path: Path, option: str) -> Any:
    """The content of an existing YAML file.

    Args:
        path: the file.
        option: the option that names it, for the message.

    Raises:
        ValueError: it is not YAML.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{option}={path}: not a YAML file: {describe_yaml_error(error)}") from None


def describe_yaml_error(error: Exception) -> str:
    """The message of a YAML error in one line, with the line and column of the error."""
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    message = " ".join(filter(None, [error.context, error.problem]))
    mark = error.problem_mark or error.context_mark
    return message if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: {message}"


def _config_values(arguments: Sequence[str]) -> Iterator[str]:
    for argument, following in itertools.pairwise([*arguments, ""]):
        option, equals, value = argument.partition("=")
        if option in ("--config", "-c") and (equals or following):
            yield value if equals else following


def _describe_missing_file(path: Path) -> str:
    if path.is_dir():
        return "is a folder"
    if path.is_symlink():
        return f"is a link to {str(path.readlink())!r}, which is not there"
    return "there is no such file"
