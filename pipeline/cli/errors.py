"""The exit status of an exception, and whether Ctrl-C caused it; imports nothing heavy."""

import os


def exit_status(error: BaseException) -> int:
    """That of a SystemExit, 130 for Ctrl-C, else 2."""
    if isinstance(error.__context__, KeyboardInterrupt):  # of which Lightning makes a SystemExit with status 1
        return 130
    if isinstance(error, SystemExit) and isinstance(error.code, int):
        return error.code
    return 130 if was_interrupted(error) else 2


def was_interrupted(error: BaseException) -> bool:
    """By Ctrl-C: a run that saved and left says so itself, and Lightning makes a SystemExit of any other."""
    if getattr(error, "interrupted", False):
        return True
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt)


def is_reported_elsewhere(error: BaseException) -> bool:
    """Whether a lower rank on this machine tells the same: Ctrl-C goes to all processes of a terminal."""
    return was_interrupted(error) and os.environ.get("LOCAL_RANK", "0") != "0"
