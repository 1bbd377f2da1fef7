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
RESULT_FILE = "result.json"
FAILURES_FILE = "failures.jsonl"


class RunFolder:
    """Reads and writes the files of a run.

    Args:
        storage_path: An absolute folder, or a URI.
        name: The run's name.
    """

    def __init__(self, storage_path: str, name: str) -> None:
        self.filesystem, root = pyarrow.fs.FileSystem.from_uri(storage_path)
        self.path = f"{root}/{name}"
        self.address = f"{storage_path}/{name}"
        self._is_local = isinstance(self.filesystem, pyarrow.fs.LocalFileSystem)

    def read_result(self) -> dict[str, Any] | None:
        """`result.json` of a finished run; None where there is none."""
        try:
            with self.filesystem.open_input_stream(f"{self.path}/{RESULT_FILE}") as stream:
                content: dict[str, Any] = json.loads(stream.read())
        except (FileNotFoundError, ValueError):
            return None
        return content

    def write_result(self, content: Mapping[str, Any]) -> None:
        """Write `result.json`, aside and renamed. NaN becomes null, which JSON has."""
        self._write(RESULT_FILE, json.dumps(_plain(content), indent=1).encode())

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


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
