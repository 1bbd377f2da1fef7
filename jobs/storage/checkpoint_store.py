"""CheckpointStore: the checkpoints of a run, `{storage_path}/{name}/checkpoints/`, and the record that names them.

A checkpoint counts once `checkpoints.json`, written last, names it, with its size. All before that is written aside and
renamed, so a process that is killed at any moment, a full disk or a lost mount leave the record and what it names as
they were.

Whether a checkpoint is whole is told by its size and by the CRC-32 that torch writes for each of its parts: every byte
is looked at when a run starts again, and nothing is computed while it trains. A checksum of our own would find the same
damage, and would cost another pass over the file for each checkpoint.

Ray Train keeps checkpoints too, but the K best and the one newest, or the K newest; and it knows of one only when its
controller has asked the rank.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jobs.storage.checkpoint_files import CheckpointFiles
from jobs.storage.run_folder import RunFolder, plain
from pipeline.checkpoints.retention import best_first, checkpoint_name, damage_of, to_keep

RECORD_FILE = "checkpoints.json"
_DIGITS = 10  # of the step in a name


class NoCheckpointLeftError(ValueError):
    """A run has checkpoints, and none of them can be read."""


@dataclass(frozen=True)
class SavedCheckpoint:
    """A line of the record.

    Args:
        file: Its name in the folder of checkpoints.
        step: Optimizer steps done.
        bytes: The size of the file.
        metrics: What was measured with these weights, and `epoch` and `step`.
        time: Seconds since the epoch.
    """

    file: str
    step: int
    bytes: int
    metrics: dict[str, Any] = field(default_factory=dict)
    time: float = 0.0


class CheckpointStore:
    """Writes, keeps, checks and finds the checkpoints of a run. One process at a time writes.

    Args:
        run: The run's folder.
        keep: K: the newest K and the best K are kept.
        monitor: The metric that says which are best.
        mode: `max` or `min`.
    """

    def __init__(self, run: RunFolder, keep: int, monitor: str, mode: str) -> None:
        self._run = run
        self._files = CheckpointFiles(run)
        self._keep = keep
        self._monitor = monitor
        self._mode = mode

    def create(self) -> None:
        """Make the folder, where a run starts: one that is lost in mid-run must not be made anew, on another disk."""
        self._files.create_folder()

    def saved(self) -> list[SavedCheckpoint]:
        """What the record names, the newest last.

        Raises:
            OSError: The storage is not there.
        """
        self._files.require_folder()
        try:
            with self._run.filesystem.open_input_stream(f"{self._run.path}/{RECORD_FILE}") as stream:
                content = json.loads(stream.read())
        except FileNotFoundError:
            return []
        return [SavedCheckpoint(**each) for each in content["checkpoints"]]

    def save(self, write: Callable[[Path], object], step: int, metrics: Mapping[str, Any]) -> SavedCheckpoint:
        """Write a checkpoint, name it in the record, and remove those that are kept no longer.

        Args:
            write: Writes it to a path that it is given.
            step: Optimizer steps done.
            metrics: What was measured with these weights.

        Raises:
            OSError: It could not be written; the record and what it names are as they were.
        """
        before = self.saved()
        name = checkpoint_name(step, _DIGITS)
        if any(each.file == name for each in before):  # the same step once more: what is named is never written over
            name = name.replace(".ckpt", f"-{uuid.uuid4().hex[:6]}.ckpt")
        try:
            size = self._files.write(write, name)
            new = SavedCheckpoint(name, step, size, plain(dict(metrics)), round(time.time(), 3))
            kept = self._kept([*before, new])
            self._write_record(kept)
        except BaseException:
            self._files.remove(name)
            raise
        for each in before:
            if each not in kept:
                self._files.remove(each.file)
        return new

    def address(self, checkpoint: SavedCheckpoint) -> str:
        """Where a person finds it."""
        return f"{self._files.address}/{checkpoint.file}"

    def path(self, checkpoint: SavedCheckpoint) -> str:
        """Its path on the run's file system."""
        return self._files.path(checkpoint.file)

    def newest_whole(self, say: Callable[[str], None]) -> SavedCheckpoint | None:
        """The newest checkpoint that can be read; those met damaged leave the record and are renamed.

        Args:
            say: Told a line for each that is damaged.

        Returns:
            None where the run has no checkpoint yet.

        Raises:
            NoCheckpointLeftError: It had some, and all are damaged.
        """
        saved = self.saved()
        damaged: dict[str, str] = {}
        for each in reversed(saved):
            damage = self.damage(each)
            if damage is None:
                if damaged:
                    last = next(iter(damaged))
                    say(
                        f"checkpoint {last} is damaged ({damaged[last]}); going on from the one before it that is "
                        f"whole, {self.address(each)}, step {each.step}"
                    )
                    self._set_aside([one for one in saved if one.file in damaged])
                return each
            damaged[each.file] = damage
        if damaged:
            file, damage = next(iter(damaged.items()))
            raise NoCheckpointLeftError(
                f"name={self._run.name}: none of the {len(damaged)} checkpoints in {self._files.address} can be "
                f"read (the newest, {file}: {damage}); start anew under another --name, or bring one back there"
            )
        return None

    def damage(self, checkpoint: SavedCheckpoint) -> str | None:
        """What is wrong with a checkpoint's file; None where it is whole."""
        try:
            return damage_of(self.fetch(checkpoint), checkpoint.bytes)
        except OSError as error:
            return "it is missing" if isinstance(error, FileNotFoundError) else f"it cannot be read: {error}"

    def fetch(self, checkpoint: SavedCheckpoint) -> Path:
        """A path on this node: the file itself, or a copy of an object, got once for all processes of the node."""
        return self._files.fetch(checkpoint.file, checkpoint.bytes, checkpoint.time)

    def remove_orphans(self) -> list[str]:
        """Remove what killed attempts left: files that the record does not name, and this node's copies.

        Call it where an attempt starts. Damaged checkpoints that were set aside stay.

        Returns:
            The names of the files that were removed.
        """
        return self._files.remove_others({each.file for each in self.saved()})

    def best_and_last(self) -> Iterator[tuple[str, SavedCheckpoint]]:
        """("best", ...) and ("last", ...), of those that are whole."""
        whole = self.saved()
        while whole and self.damage(whole[-1]) is not None:
            whole.pop()
        last = whole[-1] if whole else None
        scored = best_first(self._scores(whole), self._mode)
        newest_first = [place for place in reversed(range(len(whole))) if place not in scored]
        for best in (whole[place] for place in (*scored, *newest_first)):
            if best is last or self.damage(best) is None:
                yield "best", best
                break
        if last is not None:
            yield "last", last

    def _kept(self, saved: list[SavedCheckpoint]) -> list[SavedCheckpoint]:
        """The newest K and the best K, in order."""
        kept = to_keep(self._scores(saved), self._keep, self._keep, self._mode)
        return [each for place, each in enumerate(saved) if place in kept]

    def _scores(self, saved: list[SavedCheckpoint]) -> list[float | None]:
        found = (each.metrics.get(self._monitor) for each in saved)
        return [score if isinstance(score, int | float) else None for score in found]

    def _write_record(self, saved: list[SavedCheckpoint]) -> None:
        content = {"checkpoints": [asdict(each) for each in saved]}
        self._run.write(RECORD_FILE, json.dumps(content, indent=1).encode(), make_folder=False)

    def _set_aside(self, damaged: list[SavedCheckpoint]) -> None:
        """Out of the record, then renamed, for whoever wants to look."""
        self._write_record([each for each in self.saved() if each not in damaged])
        for each in damaged:
            self._files.set_aside(each.file)  # if it can be: it is no longer named, which is what counts
