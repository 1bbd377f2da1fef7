"""ProcessOutcome: how a process or a job ended, as one record that is handed on between processes.

Between processes it travels as a value: returned by a Ray task, attached to an exception, or as JSON in the folder of a
job's run, which outlives the process. Text for a person is made from it at the end, and never read back.
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
        message: What happened, in one sentence; of what finished, lines that say what was made.
        exit_status: Of the process.
        checkpoint: Path or address of the newest whole checkpoint of the run; empty where there is none.
        resume: The command line that goes on from it; empty where there is none.
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
        """The record out of JSON.

        Raises:
            ValueError: It has other fields.
        """
        try:
            return cls(**content)
        except TypeError:
            raise ValueError(f"not the outcome of a process: {content}") from None

    def sentence(self) -> str:
        """What happened and how to go on, in one line."""
        if not self.checkpoint:
            return self.message
        return f"{self.message}; the newest checkpoint is {self.checkpoint}; go on with: {self.resume}"


def attach_outcome(error: BaseException, outcome: ProcessOutcome) -> None:
    """Let an exception carry the outcome of the process that it ends; a traceback shows it as its last line.

    Args:
        error: The exception that ended the work.
        outcome: What is to be reported in its place.
    """
    error.__dict__["process_outcome"] = outcome
    error.add_note(f"error: {outcome.sentence()}")


def attached_outcome(error: BaseException) -> ProcessOutcome | None:
    """The outcome that an exception carries; None where it carries none."""
    outcome = getattr(error, "process_outcome", None)
    return outcome if isinstance(outcome, ProcessOutcome) else None
