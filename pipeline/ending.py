"""What a person is told last when training ends before its time; imports nothing heavy."""

import os

PREFIX = "error: "


def last_words(error: BaseException) -> str | None:
    """The note that was added, without its prefix; None where training had not begun."""
    notes = [note for note in getattr(error, "__notes__", ()) if note.startswith(PREFIX)]
    return notes[-1].removeprefix(PREFIX) if notes else None


def exit_status(error: BaseException) -> int:
    """130 for Ctrl-C, else that of a SystemExit, else 2."""
    if was_interrupted(error):
        return 130
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 2


def was_interrupted(error: BaseException) -> bool:
    """Lightning makes a SystemExit of Ctrl-C."""
    return isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt)


def is_told_by_another(error: BaseException) -> bool:
    """Whether a lower rank on this machine tells the same: Ctrl-C goes to all processes of a terminal."""
    return was_interrupted(error) and os.environ.get("LOCAL_RANK", "0") != "0"
