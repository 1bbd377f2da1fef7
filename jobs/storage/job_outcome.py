"""How a job ended, as the last lines of its log, and read back where the log is all that is left of it.

The record itself is in the run's folder (`jobs.storage.job_record`). A client that does not see that folder, and a job
whose driver was killed, leave the log alone.
"""

from pipeline.processes.outcome import ProcessOutcome

_ERROR, _NEWEST, _RESUME = "error: ", "newest checkpoint: ", "to go on from it: "
_LAST_LINES = 3


def describe_outcome(outcome: ProcessOutcome) -> list[str]:
    """What a job prints last: what happened, where its newest checkpoint is, and how to go on."""
    lines = outcome.message.splitlines()
    if outcome.kind in ("refused", "failed"):
        lines = [f"{_ERROR}{' '.join(lines) or f'exit status {outcome.exit_status}'}"]
    return [*lines, *resume_lines(outcome)]


def resume_lines(outcome: ProcessOutcome) -> list[str]:
    """Where the newest checkpoint is and how to go on from it; empty where there is none."""
    if not outcome.checkpoint:
        return []
    return [f"{_NEWEST}{outcome.checkpoint}", f"{_RESUME}{outcome.resume}"]


def outcome_in_log(log: str) -> ProcessOutcome | None:
    """What `describe_outcome` wrote at the end of a log; of a job that was killed, its last error or its last line.

    Args:
        log: Of a job that did not finish, or the end of it.

    Returns:
        The outcome, without an exit status, which Ray knows; None for an empty log.
    """
    lines = [line for line in log.splitlines() if line.strip()]
    checkpoint, resume = (_take(label, lines) for label in (_NEWEST, _RESUME))
    if not lines:
        return None
    errors = [line.removeprefix(_ERROR) for line in lines if line.startswith(_ERROR)]
    return ProcessOutcome("failed" if errors else "stopped", (errors or lines)[-1], 0, checkpoint, resume)


def _take(label: str, lines: list[str]) -> str:
    """The rest of the line with a label among the last ones, which is removed."""
    for line in lines[-_LAST_LINES:]:
        if line.startswith(label):
            lines.remove(line)
            return line.removeprefix(label)
    return ""
