"""Outcome of a job as the last lines of its log: writes them, and parses them.

The record itself is in the run's folder (`jobs.storage.job_record`). Only the log is left if the client does not see
that folder, or if the driver was killed.
"""

from pipeline.processes.outcome import ProcessOutcome

_ERROR, _NEWEST, _RESUME = "error: ", "newest checkpoint: ", "to go on from it: "
_LAST_LINES = 3


def describe_outcome(outcome: ProcessOutcome) -> list[str]:
    """The last lines of a job's log: what happened, where its newest checkpoint is, and how to resume."""
    lines = outcome.message.splitlines()
    if outcome.kind in ("refused", "failed"):
        lines = [f"{_ERROR}{' '.join(lines) or f'exit status {outcome.exit_status}'}"]
    return [*lines, *resume_lines(outcome)]


def resume_lines(outcome: ProcessOutcome) -> list[str]:
    """The lines that name the newest checkpoint and the command to resume from it; empty if there is none."""
    if not outcome.checkpoint:
        return []
    return [f"{_NEWEST}{outcome.checkpoint}", f"{_RESUME}{outcome.resume}"]


def outcome_in_log(log: str) -> ProcessOutcome | None:
    """Parse the lines of `describe_outcome` at the end of a log; for a killed job, use its last error or its last line.

    Args:
        log: The log, or its end, of a job that did not finish.

    Returns:
        The outcome, with exit status 0 as a placeholder (Ray has the real one); None for an empty log.
    """
    lines = [line for line in log.splitlines() if line.strip()]
    checkpoint, resume = (_take(label, lines) for label in (_NEWEST, _RESUME))
    if not lines:
        return None
    errors = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
    return ProcessOutcome("failed" if errors else "stopped", (errors or lines)[-1], 0, checkpoint, resume)


def _take(label: str, lines: list[str]) -> str:
    """Remove the line that starts with a label from the last lines, and return its rest; empty if there is none."""
    for line in lines[-_LAST_LINES:]:
        if line.startswith(label):
            lines.remove(line)
            return line.removeprefix(label)
    return ""
