"""RunFolder: the files of a job in its run's folder, `{storage_path}/{name}/`, besides those of every `fit`."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.checkpoints.checkpoint_record import CheckpointRecord
from pipeline.checkpoints.checkpoint_store import CheckpointStore
from pipeline.checkpoints.storage import open_storage
from pipeline.processes.outcome import OutcomeKind, ProcessOutcome

CONFIG_FILE = "config.yaml"  # the whole configuration of the run
RESULT_FILE = "result.json"
FAILURES_FILE = "failures.jsonl"
_MAX_REASON_LENGTH = 2000  # characters of a reason; a refusal names videos


class RunFolder:
    """Reads and writes the files of a run.

    Args:
        storage_path: The absolute folder, or the URI, that holds the run's folder.
        name: The run's name.
    """

    def __init__(self, storage_path: str, name: str) -> None:
        self.name = name
        self.address = f"{storage_path}/{name}"
        self.storage = open_storage(self.address)

    def checkpoints(self) -> CheckpointStore:
        """A store for reading the run's checkpoints."""
        return CheckpointStore(self.storage)

    def write_config(self, text: str) -> None:
        """Write `config.yaml`."""
        self.write(CONFIG_FILE, text.encode())

    def read_result(self) -> dict[str, Any] | None:
        """The content of `result.json` of a finished run; None if it is missing or unreadable."""
        try:
            content: dict[str, Any] | None = json.loads(self.storage.read(RESULT_FILE) or b"null")
        except ValueError:
            return None
        return content

    def finish(self, published: Mapping[str, CheckpointRecord], *, facts: Mapping[str, Any]) -> None:
        """Write result.json.

        Args:
            published: The checkpoints that `CheckpointStore.publish` returns, by label.
            facts: Further entries of result.json.
        """
        paths = {label: f"{self.address}/{label}.ckpt" for label in published}
        metrics = {label: checkpoint.metrics for label, checkpoint in published.items()}
        reasons = [failure["reason"] for failure in self.read_failures()]
        content = {"status": "finished", "checkpoints": paths, "metrics": metrics, "failures": reasons, **facts}
        self.write(RESULT_FILE, json.dumps(content, indent=1).encode())

    def last_lines(self) -> list[str]:
        """The lines that name the checkpoints and the result of a finished run."""
        result = self.read_result() or {"checkpoints": {}}
        lines = [f"{name} checkpoint: {path}" for name, path in result["checkpoints"].items()]
        return [*lines, f"result: {self.address}/{RESULT_FILE}"]

    def failure_outcome(self, reason: str, newest: str | None, *, since: float) -> ProcessOutcome:
        """The outcome of a run that failed and is not retried.

        Args:
            reason: What happened; used if no rank recorded a reason.
            newest: The address of the newest checkpoint; None if there is none.
            since: The start time of this job in seconds since the epoch; earlier failures are ignored.
        """
        failures = [failure for failure in self.read_failures() if failure["time"] >= since]
        kind: OutcomeKind = "refused" if failures and failures[-1].get("refused") else "failed"
        return self.unfinished_outcome(kind, failures[-1]["reason"] if failures else reason, 1, newest)

    def unfinished_outcome(
        self, kind: OutcomeKind, message: str, exit_status: int, newest: str | None
    ) -> ProcessOutcome:
        """The outcome of a run that did not finish; if there is a checkpoint, it names the command to resume.

        Args:
            kind: `refused`, `stopped` or `failed`.
            message: What happened.
            exit_status: The exit status of the job.
            newest: The address of the newest checkpoint; None if there is none.
        """
        if newest is None:
            return ProcessOutcome(kind, message, exit_status)
        return ProcessOutcome(kind, message, exit_status, newest, f"python -m jobs resume {self.name}")

    def read_failures(self) -> list[dict[str, Any]]:
        """The recorded failures of all jobs of this run, the oldest first."""
        return [json.loads(line) for line in (self.storage.read(FAILURES_FILE) or b"").splitlines()]

    def add_failure(self, failure: Mapping[str, Any]) -> None:
        """Append a failure to `failures.jsonl`."""
        lines = [json.dumps(each) for each in [*self.read_failures(), failure]]
        self.write(FAILURES_FILE, ("\n".join(lines) + "\n").encode())

    def read_record(self, name: str) -> dict[str, Any] | None:
        """The content of a JSON file of this folder; None if there is none.

        Raises:
            ValueError: it is not JSON.
        """
        content = self.storage.read(name)
        try:
            recorded: dict[str, Any] | None = None if content is None else json.loads(content)
        except ValueError:
            raise ValueError(f"{self.address}/{name} cannot be read: it is damaged") from None
        return recorded

    def write(self, name: str, content: bytes, *, make_folder: bool = True) -> None:
        """Write a small file of the run's folder atomically.

        Args:
            name: The file name in the run's folder.
            content: The content of the file.
            make_folder: Whether to create the run's folder, as at the start of a run; during a run a missing folder
                means that the storage is lost.
        """
        if make_folder:
            self.storage.create_folder()
        self.storage.write(name, lambda path: path.write_bytes(content))


def command_digest(args: Sequence[str], configs: Sequence[Path]) -> str:
    """Hash the arguments and the content of the configs, to distinguish commands.

    Args:
        args: The command line of the job, with its `upload:` paths.
        configs: The paths of the config files.
    """
    digest = hashlib.sha256(json.dumps(list(args)).encode())
    for path in configs:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def describe_exception(error: BaseException) -> str:
    """Describe an exception in one line: its class and the last line of its message, without Ray's general advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[-1].partition(' Some common causes include')[0][:_MAX_REASON_LENGTH]}"
