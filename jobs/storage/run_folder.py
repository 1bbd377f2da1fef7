"""A run's folder, `{storage_path}/{name}/`: what it says of itself, and its best and last checkpoint.

Works through pyarrow's file systems, as Ray Train does, so that the folder can be local, shared, or s3:// and gs://.
"""

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.fs

from datamodules.storage.atomic_write import write_atomically
from pipeline.processes.outcome import OutcomeKind, ProcessOutcome

CONFIG_FILE = "config.yaml"  # the whole configuration of the run
RESULT_FILE = "result.json"
FAILURES_FILE = "failures.jsonl"
_LONGEST = 2000  # characters of a reason; a refusal names videos


class RunFolder:
    """Reads and writes the files of a run.

    Args:
        storage_path: An absolute folder, or a URI.
        name: The run's name.
    """

    def __init__(self, storage_path: str, name: str) -> None:
        self.filesystem, root = pyarrow.fs.FileSystem.from_uri(storage_path)
        self.name = name
        self.path = f"{root}/{name}"
        self.address = f"{storage_path}/{name}"
        self.is_local = isinstance(self.filesystem, pyarrow.fs.LocalFileSystem)

    def on_this_node(self) -> Path:
        """The run's folder; where that is a URI, a folder of this node's for what goes there and comes from there."""
        if self.is_local:
            return Path(self.path)
        mark = hashlib.sha256(self.address.encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"arp-run-{os.getuid()}-{mark}"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def write_config(self, text: str) -> None:
        """Write `config.yaml`."""
        self.write(CONFIG_FILE, text.encode())

    def read_result(self) -> dict[str, Any] | None:
        """`result.json` of a finished run; None where there is none."""
        try:
            with self.filesystem.open_input_stream(f"{self.path}/{RESULT_FILE}") as stream:
                content: dict[str, Any] = json.loads(stream.read())
        except (FileNotFoundError, ValueError):
            return None
        return content

    def finish(self, chosen: Mapping[str, tuple[str, Mapping[str, Any]]], *, facts: Mapping[str, Any]) -> None:
        """Publish checkpoints under lasting names and, when they are there, write result.json.

        Args:
            chosen: By what they are called, `best` and `last`: path on this file system, and metrics.
            facts: What else result.json holds. NaN becomes null, which JSON has.
        """
        paths = {label: self.publish(path, f"{label}.ckpt") for label, (path, _) in chosen.items()}
        metrics = {label: measured for label, (_, measured) in chosen.items()}
        reasons = [failure["reason"] for failure in self.read_failures()]
        content = {"status": "finished", "checkpoints": paths, "metrics": metrics, "failures": reasons, **facts}
        self.write(RESULT_FILE, json.dumps(plain(content), indent=1).encode())

    def last_lines(self) -> list[str]:
        """Where the checkpoints and the result of a finished run are."""
        result = self.read_result() or {"checkpoints": {}}
        lines = [f"{name} checkpoint: {path}" for name, path in result["checkpoints"].items()]
        return [*lines, f"result: {self.address}/{RESULT_FILE}"]

    def failed(self, reason: str, newest: str | None, *, since: float) -> ProcessOutcome:
        """The outcome of a run that failed for good.

        Args:
            reason: What happened, where no rank left a reason.
            newest: The address of the newest checkpoint; None where there is none.
            since: When this submission of the run began, in seconds since the epoch.
        """
        failures = [failure for failure in self.read_failures() if failure["time"] >= since]
        kind: OutcomeKind = "refused" if failures and failures[-1].get("refused") else "failed"
        return self.ended(kind, failures[-1]["reason"] if failures else reason, 1, newest)

    def ended(self, kind: OutcomeKind, message: str, exit_status: int, newest: str | None) -> ProcessOutcome:
        """The outcome of a run that did not finish; with a checkpoint, `python -m jobs resume` goes on from it.

        Args:
            kind: `refused`, `stopped` or `failed`.
            message: What happened.
            exit_status: Of the job.
            newest: The address of the newest checkpoint; None where there is none.
        """
        if newest is None:
            return ProcessOutcome(kind, message, exit_status)
        return ProcessOutcome(kind, message, exit_status, newest, f"python -m jobs resume {self.name}")

    def read_failures(self) -> list[dict[str, Any]]:
        """What failed so far, in order, over all submissions of this name."""
        try:
            with self.filesystem.open_input_stream(f"{self.path}/{FAILURES_FILE}") as stream:
                return [json.loads(line) for line in stream.read().splitlines()]
        except FileNotFoundError:
            return []

    def add_failure(self, failure: Mapping[str, Any]) -> None:
        """Append to `failures.jsonl`."""
        lines = [json.dumps(each) for each in [*self.read_failures(), failure]]
        self.write(FAILURES_FILE, ("\n".join(lines) + "\n").encode())

    def publish(self, source: str, name: str) -> str:
        """Give a checkpoint a lasting name: a hard link where the file system has them, else a copy.

        Args:
            source: The file of a checkpoint, on this file system.
            name: Such as best.ckpt.

        Returns:
            Its address.
        """
        target, aside = f"{self.path}/{name}", f"{self.path}/.{name}.aside"
        if self.is_local:
            Path(aside).unlink(missing_ok=True)
            try:
                os.link(source, aside)
            except OSError:  # a file system without hard links
                self.filesystem.copy_file(source, aside)
            Path(aside).replace(target)
        else:
            self.filesystem.copy_file(source, target)  # an object appears whole or not at all
        return f"{self.address}/{name}"

    def read_file(self, name: str) -> bytes | None:
        """A file of the run; None where there is none.

        Raises:
            OSError: the storage cannot be reached.
        """
        try:
            with self.filesystem.open_input_stream(f"{self.path}/{name}") as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes, *, make_folder: bool = True) -> None:
        """Write a small file of the run's folder, whole or not at all.

        Args:
            name: In the run's folder.
            content: Of the file.
            make_folder: Make the folder if it is missing, as where a run starts; in mid-run its storage is lost.
        """
        if make_folder:
            self.filesystem.create_dir(self.path)
        if self.is_local:
            with write_atomically(Path(self.path) / name) as aside:
                aside.write_bytes(content)
            return
        with self.filesystem.open_output_stream(f"{self.path}/{name}") as stream:
            stream.write(content)


def command_digest(args: Sequence[str], configs: Sequence[Path]) -> str:
    """Tells one command from another: a hash of the arguments and of what the configs say.

    Args:
        args: The command line of the job, with its `upload:` paths.
        configs: The config files.
    """
    digest = hashlib.sha256(json.dumps(list(args)).encode())
    for path in configs:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def describe_exception(error: BaseException) -> str:
    """What happened, in one line: the exception's class and the last line of what it says, less Ray's good advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[-1].partition(' Some common causes include')[0][:_LONGEST]}"


def plain(value: Any) -> Any:
    """The value as JSON has it: null for NaN and infinity."""
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
