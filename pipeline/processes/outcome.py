"""`ProcessOutcome`: how a process or a job ended, as one record that is passed between processes.

It is returned by a Ray task, attached to an exception, or written as JSON to the folder of a job's run, which outlives
the process. Messages for people are formatted from it at the end, and never parsed.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

OutcomeKind = Literal["finished", "refused", "stopped", "failed"]


@dataclass(frozen=True)
class ProcessOutcome:
    """How a process or a job ended.

    Attributes:
        kind: `finished`; `refused`, where the input is wrong and another attempt would end the same way; `stopped`, by
            Ctrl-C, SIGTERM or `python -m jobs stop`; or `failed`.
        message: The event in one sentence; for `finished`, lines on the results.
        exit_status: Exit status of the process.
        checkpoint: Path or URI of the newest complete checkpoint of the run; empty where there is none.
        resume: The command line that resumes from the checkpoint; empty where there is none.
    """

    kind: OutcomeKind
    message: str = ""
    exit_status: int = 0
    checkpoint: str = ""
    resume: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The record as plain data for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Self:
        """Makes a record from the plain data of `as_dict`.

        Raises:
            ValueError: The fields are not those of a record.
        """
        try:
            return cls(**content)
        except TypeError:
            raise ValueError(f"not the outcome of a process: {content}") from None

    def sentence(self) -> str:
        """The message, with the newest checkpoint and the command line to resume where there is a checkpoint."""
        if not self.checkpoint:
            return self.message
        return f"{self.message}; the newest checkpoint is {self.checkpoint}; go on with: {self.resume}"


def attach_outcome(error: BaseException, outcome: ProcessOutcome) -> None:
    """Attach the outcome of a process to the exception that ends it; a traceback shows it as its last line.

    Args:
        error: The exception that ends the process.
        outcome: The outcome that is reported in place of the exception.
    """
    error.__dict__["process_outcome"] = outcome
    error.add_note(f"error: {outcome.sentence()}")


def attached_outcome(error: BaseException) -> ProcessOutcome | None:
    """The outcome that `attach_outcome` attached to an exception; None where there is none."""
    outcome = getattr(error, "process_outcome", None)
    return outcome if isinstance(outcome, ProcessOutcome) else None
