"""Error messages of commands, one line each, and exit statuses; imports nothing heavy."""

import difflib
import os
import re
from argparse import ArgumentError
from collections.abc import Callable, Iterable
from pathlib import Path

_TYPE_NAMES = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def suggest(name: str, valid: Iterable[str], fallback: str, format_name: Callable[[str], str] = repr) -> str:
    """The end of a sentence about an unknown name, which suggests the nearest valid name.

    Args:
        name: The unknown name.
        valid: The valid names.
        fallback: The end of the sentence where no valid name is near.
        format_name: Formats a name; default: in quotes.

    >>> suggest("evaluat", ["fit", "evaluate"], "choose one of fit, evaluate")
    "did you mean 'evaluate'?"
    """
    near = difflib.get_close_matches(name, list(valid), 1)
    return f"did you mean {format_name(near[0])}?" if near else fallback


def exit_status(error: BaseException) -> int:
    """The exit status for an error: a SystemExit's own, 130 for Ctrl-C, else 2."""
    if isinstance(error.__context__, KeyboardInterrupt):  # which Lightning turns into a SystemExit with status 1
        return 130
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 130 if was_interrupted(error) else 2


def was_interrupted(error: BaseException) -> bool:
    """Whether Ctrl-C caused an error: `PreemptionExit` says so itself; otherwise Lightning may raise a SystemExit."""
    if getattr(error, "is_interrupted", False):
        return True
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt)


def is_reported_elsewhere(error: BaseException) -> bool:
    """Whether local rank 0 reports the same error: Ctrl-C reaches all processes of a terminal."""
    return was_interrupted(error) and os.environ.get("LOCAL_RANK", "0") != "0"


def explain(error: BaseException) -> str:
    """The message of an error in one line.

    jsonargparse wraps an error in messages on the types it tried; the helpful sentence is that of the innermost error.

    Args:
        error: the exception that the command raised.

    Returns:
        The error's own message; for an error that jsonargparse wrapped, the option and the innermost message; for an
        OSError with a file name, the file and the reason.

    >>> explain(FileExistsError(17, "File exists", "out"))
    "'out': file exists"
    """
    message = str(error)
    if isinstance(error, OSError) and error.strerror and isinstance(error.filename, (str, Path)):
        return f"{str(error.filename)!r}: {error.strerror.lower()}"  # without [Errno 2]
    wrapped = isinstance(error, ArgumentError) or "Union subtypes" in message or "Call to compute_fn" in message
    innermost, option = error, _parser_key(error)
    while wrapped and innermost.__cause__ is not None:
        innermost = innermost.__cause__
        key = _parser_key(innermost)
        if key is not None and option is not None and key != option.rpartition(".")[2] and key != option:
            option = key if key.startswith(f"{option}.") else f"{option}.{key}"  # `model`, then `class_weights` in it
    text = " ".join(str(innermost).split())
    text = re.sub(r"Expected a typing\.Literal\[(.+?)\]\. Got value: (.*)", _describe_wrong_choice, text)
    text = re.sub(r"Expected a <class '(int|float|bool)'>\. Got value: (.*)", _describe_wrong_type, text)
    return f"{option}: {text}" if option and not text.startswith("Parser key") else text


def _parser_key(error: BaseException) -> str | None:
    """The option that an error of jsonargparse names, if any."""
    found = re.match(r'Parser key "([^"]+)"', str(error))
    return found[1] if found else None


def _describe_wrong_choice(match: re.Match[str]) -> str:
    names = match[1].replace("'", "")
    return f"must be one of {names}, not {match[2]}"


def _describe_wrong_type(match: re.Match[str]) -> str:
    return f"must be {_TYPE_NAMES[match[1]]}, not {match[2]}"
