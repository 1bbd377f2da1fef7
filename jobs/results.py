"""A run's folder, `{storage_path}/{name}/`: what it says of itself, and its best and last checkpoint.

Works through pyarrow's file systems, as Ray Train does, so that the folder can be local, shared, or s3:// and gs://.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.fs

CHECKPOINT_FILE = "checkpoint.ckpt"  # in the folder of each reported checkpoint
CONFIG_FILE = "config.yaml"  # the whole configuration of the run
RESULT_FILE = "result.json"
SCORE = "checkpoint_score"  # of each report: more is better, and always a finite number
FAILURES_FILE = "failures.jsonl"


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
        self._is_local = isinstance(self.filesystem, pyarrow.fs.LocalFileSystem)

    def write_config(self, text: str) -> None:
        """Write `config.yaml`."""
        self._write(CONFIG_FILE, text.encode())

    def read_result(self) -> dict[str, Any] | None:
        """`result.json` of a finished run; None where there is none."""
        try:
            with self.filesystem.open_input_stream(f"{self.path}/{RESULT_FILE}") as stream:
                content: dict[str, Any] = json.loads(stream.read())
        except (FileNotFoundError, ValueError):
            return None
        return content

    def finish(
        self,
        reported: Sequence[tuple[str, Mapping[str, Any]]],
        *,
        last: str | None,
        monitor: str,
        mode: str,
        facts: Mapping[str, Any],
    ) -> None:
        """Publish the best and the last checkpoint and, when they are there, write result.json.

        Args:
            reported: Checkpoint folder and metrics of the checkpoints that were kept.
            last: The folder of the newest one; None where there is none.
            monitor: The metric that says which is best.
            mode: `max` or `min`.
            facts: What else result.json holds. NaN becomes null, which JSON has.
        """
        paths: dict[str, str] = {}
        metrics: dict[str, Mapping[str, Any]] = {}
        if last is not None:
            best = reported[best_of(reported, monitor, mode)]
            paths = {"best": self.publish(best[0], "best.ckpt"), "last": self.publish(last, "last.ckpt")}
            metrics = {"best": best[1], "last": dict(reported)[last]}
        reasons = [failure["reason"] for failure in self.read_failures()]
        content = {"status": "finished", "checkpoints": paths, "metrics": metrics, "failures": reasons, **facts}
        self._write(RESULT_FILE, json.dumps(_plain(content), indent=1).encode())

    def last_lines(self) -> list[str]:
        """Where the checkpoints and the result of a finished run are."""
        result = self.read_result() or {"checkpoints": {}}
        lines = [f"{name} checkpoint: {path}" for name, path in result["checkpoints"].items()]
        return [*lines, f"result: {self.address}/{RESULT_FILE}"]

    def failure_lines(self, reason: str, *, since: float) -> list[str]:
        """What happened, where the newest checkpoint is, and how to go on.

        Args:
            reason: Said where no rank left one.
            since: When this submission of the run began, in seconds since the epoch.
        """
        failures = [failure for failure in self.read_failures() if failure["time"] >= since]
        selector = pyarrow.fs.FileSelector(self.path, allow_not_found=True)
        kept = sorted(each.path for each in self.filesystem.get_file_info(selector) if "checkpoint_2" in each.path)
        lines = [f"error: {failures[-1]['reason'] if failures else reason}"]
        if kept:
            lines += [f"newest checkpoint: {kept[-1]}", f"to go on from it, submit again with --name {self.name}"]
        return lines

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
        self._write(FAILURES_FILE, ("\n".join(lines) + "\n").encode())

    def publish(self, checkpoint_path: str, name: str) -> str:
        """Give a reported checkpoint a lasting name: a hard link where the file system has them, else a copy.

        Args:
            checkpoint_path: The folder of a reported checkpoint, on this file system.
            name: Such as best.ckpt.

        Returns:
            Its address.
        """
        source, target = f"{checkpoint_path}/{CHECKPOINT_FILE}", f"{self.path}/{name}"
        aside = f"{self.path}/.{name}.aside"
        if self._is_local:
            Path(aside).unlink(missing_ok=True)
            try:
                os.link(source, aside)
            except OSError:  # a file system without hard links
                self.filesystem.copy_file(source, aside)
            Path(aside).replace(target)
        else:
            self.filesystem.copy_file(source, target)  # an object appears whole or not at all
        return f"{self.address}/{name}"

    def write_file(self, name: str, content: bytes) -> None:
        """Write a file of the run, whole or not at all."""
        self._write(name, content)

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

    def _write(self, name: str, content: bytes) -> None:
        self.filesystem.create_dir(self.path)
        aside = f"{self.path}/.{name}.aside" if self._is_local else f"{self.path}/{name}"
        with self.filesystem.open_output_stream(aside) as stream:
            stream.write(content)
        if self._is_local:
            Path(aside).replace(f"{self.path}/{name}")


def fingerprint(args: Sequence[str], configs: Sequence[Path]) -> str:
    """Tells one command from another: a hash of the arguments and of what the configs say.

    Args:
        args: The command line of the job, with its `upload:` paths.
        configs: The config files.
    """
    digest = hashlib.sha256(json.dumps(list(args)).encode())
    for path in configs:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def best_of(reported: Sequence[tuple[str, Mapping[str, Any]]], monitor: str, mode: str) -> int:
    """Which reported checkpoint is best.

    Args:
        reported: Checkpoint folder and metrics.
        monitor: The metric that decides.
        mode: `max` or `min`.

    Returns:
        Its position; that of the one with the most steps where none has the metric. The later of two equals.
    """
    sign = 1.0 if mode == "max" else -1.0
    scored = [
        (sign * metrics[monitor], metrics.get("step", 0), position)
        for position, (_, metrics) in enumerate(reported)
        if isinstance(metrics.get(monitor), int | float) and not math.isnan(metrics[monitor])
    ]
    if scored:
        return max(scored)[2]
    return max(range(len(reported)), key=lambda position: reported[position][1].get("step", 0))


def one_line(error: BaseException) -> str:
    """What happened, in one line: the exception's class and the last line of what it says, less Ray's good advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[-1].partition(' Some common causes include')[0][:500]}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
