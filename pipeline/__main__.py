"""`python -m pipeline VERB ...`: command line of all steps.

A verb is a typed function in the module of its name; its arguments and help come from its signature and docstring. Bad
input ends with one line and exit status 2; set PIPELINE_DEBUG=1 for the traceback.
"""

import os
import sys
from argparse import ArgumentError
from collections.abc import Sequence

from pipeline.cli.arguments import call_from_command_line
from pipeline.cli.errors import exit_status, explain, is_reported_elsewhere, suggest
from pipeline.cli.terminal import escape_unencodable_characters, print_text
from pipeline.cli.verbs import CONFIG_VERBS, LIGHTNING_VERBS, VERBS, load_verb
from pipeline.processes.outcome import ProcessOutcome, attached_outcome


def main(args: Sequence[str] | None = None) -> int:
    """Runs a verb, and prints an error in one line.

    Args:
        args: command-line arguments after `python -m pipeline`; default: those of this process.

    Returns:
        The exit status: 0 for success, 2 for bad input; 1 if `doctor` found a problem.
    """
    outcome = run(sys.argv[1:] if args is None else args)
    if outcome.message:
        print_text(f"error: {outcome.sentence()}", sys.stderr)
    return outcome.exit_status


def run(args: Sequence[str]) -> ProcessOutcome:
    """Runs a verb in this process.

    Args:
        args: command-line arguments after `python -m pipeline`.

    Returns:
        The outcome; its message is printed by the caller.

    Raises:
        Exception: an unexpected error, with the outcome of the run attached if training had begun.
        SystemExit: the arguments asked for help, which is printed.
    """
    arguments = list(args)
    verb = arguments[0] if arguments else ""
    if verb in ("", "-h", "--help"):
        print(_usage())
        return ProcessOutcome("finished") if verb else ProcessOutcome("refused", exit_status=2)
    if verb not in LIGHTNING_VERBS | CONFIG_VERBS | VERBS:
        every = ", ".join(LIGHTNING_VERBS | CONFIG_VERBS | VERBS)
        hint = suggest(verb, LIGHTNING_VERBS | CONFIG_VERBS | VERBS, f"choose one of {every}")
        return ProcessOutcome("refused", f"there is no verb {verb!r}; {hint}", 2)
    escape_unencodable_characters()
    try:
        if verb in LIGHTNING_VERBS:
            load_verb(verb)(arguments, add_resume_hints=True)
        elif verb in CONFIG_VERBS:
            status = int(load_verb(verb)(arguments[1:]) or 0)
            return ProcessOutcome("failed" if status else "finished", exit_status=status)
        else:
            call_from_command_line(load_verb(verb), arguments[1:], f"python -m pipeline {verb}")
    except (ArgumentError, ValueError, OSError, ImportError) as error:
        if os.environ.get("PIPELINE_DEBUG"):
            raise
        return attached_outcome(error) or ProcessOutcome("refused", " ".join(explain(error).split()), 2)
    except (KeyboardInterrupt, SystemExit) as stop:
        outcome = attached_outcome(stop)
        if outcome is None and isinstance(stop, KeyboardInterrupt):
            outcome = ProcessOutcome("stopped", "interrupted", exit_status(stop))
        if outcome is None:
            raise
        return ProcessOutcome("stopped", exit_status=outcome.exit_status) if is_reported_elsewhere(stop) else outcome
    return ProcessOutcome("finished")


def _usage() -> str:
    every = VERBS | CONFIG_VERBS | LIGHTNING_VERBS
    width = max(map(len, every))
    lines = [f"  {name:<{width}}  {text}" for name, text in every.items()]
    return "\n".join(["usage: python -m pipeline VERB [--help] ...", "", *lines])


if __name__ == "__main__":
    sys.exit(main())
