"""Outcome of a job in its log: lines for people, and one line of JSON that the client reads and does not show.

The record itself is in the run's folder (`jobs.storage.job_record`). Only the log is left if the client does not see
that folder, or if the driver was killed.
"""

import json

from pipeline.processes.outcome import ProcessOutcome

OUTCOME_PREFIX = "job outcome: {"  # the first characters of the line of JSON


def describe_outcome(outcome: ProcessOutcome) -> list[str]:
    """The last lines of a job's log: what happened, where its newest checkpoint is, and how to resume."""
    lines = outcome.message.splitlines()
    if outcome.kind in ("refused", "failed"):
        lines = [f"error: {' '.join(lines) or f'exit status {outcome.exit_status}'}"]
    return [*lines, *describe_resume(outcome)]


def describe_resume(outcome: ProcessOutcome) -> list[str]:
    """The lines that name the newest checkpoint and the command to resume; empty if there is neither."""
    if outcome.checkpoint:
        return [f"newest checkpoint: {outcome.checkpoint}", f"to go on from it: {outcome.resume}"]
    return [f"to go on: {outcome.resume}"] if outcome.resume else []


def format_outcome(outcome: ProcessOutcome) -> str:
    """The line of a job's log that `parse_outcome` reads."""
    return OUTCOME_PREFIX + json.dumps(outcome.as_dict())[1:]


def parse_outcome(log: str) -> ProcessOutcome | None:
    """Read the outcome from a log.

    Args:
        log: The log, or its end, of a job that did not finish.

    Returns:
        The outcome that the driver printed; `stopped` with the last line of the log if the driver was killed, with exit
        status 0 as a placeholder (Ray has the real one); None for an empty log.
    """
    lines = [line for line in log.splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith(OUTCOME_PREFIX):
            return ProcessOutcome.from_dict(json.loads("{" + line.removeprefix(OUTCOME_PREFIX)))
    return ProcessOutcome("stopped", lines[-1]) if lines else None


class OutcomeLineFilter:
    """Removes the line of `format_outcome` from a log that arrives in pieces."""

    def __init__(self) -> None:
        self._start_of_line = ""  # an incomplete line that may become the line of the outcome

    def filter(self, text: str) -> str:
        """The part of the log that can be shown after the next piece of it."""
        lines = (self._start_of_line + text).splitlines(keepends=True)
        self._start_of_line = ""
        last = lines[-1] if lines else "\n"
        if not last.endswith("\n") and (last.startswith(OUTCOME_PREFIX) or OUTCOME_PREFIX.startswith(last)):
            self._start_of_line = lines.pop()
        return "".join(line for line in lines if not line.startswith(OUTCOME_PREFIX))

    def rest(self) -> str:
        """What was held back at the end of the log."""
        return "" if self._start_of_line.startswith(OUTCOME_PREFIX) else self._start_of_line


def hide_outcome(log: str) -> str:
    """A whole log without the line of `format_outcome`."""
    outcome_filter = OutcomeLineFilter()
    return outcome_filter.filter(log) + outcome_filter.rest()
