"""`python -m pipeline VERB ...`: every step a person runs.

A verb is a typed function in the module of its name; its arguments and help come from its signature and docstring. Bad
input ends with one line and exit status 2; set PIPELINE_DEBUG=1 to see where it came from.
"""

import os
import sys
from argparse import ArgumentError
from collections.abc import Sequence

from pipeline.cli.arguments import call_from_command_line
from pipeline.cli.errors import error_message, exit_status, explain, is_reported_elsewhere, suggest
from pipeline.cli.terminal import say, show_all_characters
from pipeline.cli.verbs import CONFIG_VERBS, LIGHTNING_VERBS, VERBS, load_verb


def main(args: Sequence[str] | None = None) -> int:
    """Runs a verb.

    Args:
        args: the words after `python -m pipeline`; default: those of this process.

    Returns:
        The exit status: 0 when all went well, 2 for bad input; 1 where `doctor` found something wrong.
    """
    words = list(sys.argv[1:] if args is None else args)
    verb = words[0] if words else ""
    if verb in ("", "-h", "--help"):
        print(_usage())
        return 0 if verb else 2
    if verb not in LIGHTNING_VERBS | CONFIG_VERBS | VERBS:
        every = ", ".join(LIGHTNING_VERBS | CONFIG_VERBS | VERBS)
        hint = suggest(verb, LIGHTNING_VERBS | CONFIG_VERBS | VERBS, f"choose one of {every}")
        return _complain(f"there is no verb {verb!r}; {hint}")
    show_all_characters()
    try:
        if verb in LIGHTNING_VERBS:
            load_verb(verb)(words, for_a_person=True)
        elif verb in CONFIG_VERBS:
            return int(load_verb(verb)(words[1:]) or 0)
        else:
            call_from_command_line(load_verb(verb), words[1:], f"python -m pipeline {verb}")
    except (ArgumentError, ValueError, OSError, ImportError) as error:
        if os.environ.get("PIPELINE_DEBUG"):
            raise
        return _complain(error_message(error) or explain(error))
    except (KeyboardInterrupt, SystemExit) as stop:
        told = error_message(stop) or ("interrupted" if isinstance(stop, KeyboardInterrupt) else None)
        if told is None:
            raise
        return exit_status(stop) if is_reported_elsewhere(stop) else _complain(told, exit_status(stop))
    return 0


def _usage() -> str:
    every = VERBS | CONFIG_VERBS | LIGHTNING_VERBS
    width = max(map(len, every))
    lines = [f"  {name:<{width}}  {text}" for name, text in every.items()]
    return "\n".join(["usage: python -m pipeline VERB [--help] ...", "", *lines])


def _complain(message: str, status: int = 2) -> int:
    say(f"error: {' '.join(message.split())}", sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
