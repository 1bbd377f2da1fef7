"""CheckpointStore: the checkpoints of a run, in `checkpoints/` of its folder, for `fit` on a laptop and for jobs.

A checkpoint is a file there called `step-{step:08d}.ckpt`. It is written aside and renamed, so a process that is killed
at any moment, a full disk or a lost mount leave those that are there as they were. `checkpoints.json` beside them says
what was measured with each; a file that it does not name, such as one that was copied back, counts all the same.

Whether a checkpoint is whole is told by the CRC-32 that torch writes for each of its parts: every byte is looked at
when a run starts again, and nothing is computed while it trains. A checksum of our own would find the same damage, and
would cost another pass over the file for each checkpoint.

Not Lightning's ModelCheckpoint, which keeps the newest or the best and remembers what it keeps in the checkpoints
themselves, so that each restart leaves files behind that nobody removes; and not Ray Train's, which keeps the K best
and the one newest, or the K newest, and knows of one only when its controller has asked the rank.
"""

import json
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.retention import best_first, damage_of, to_keep
from pipeline.checkpoints.storage import Storage

FOLDER = "checkpoints"
RECORD = f"{FOLDER}/checkpoints.json"
LAST, BEST = "last.ckpt", "best.ckpt"
DAMAGED_SUFFIX = ".damaged"  # what a checkpoint that was met damaged is renamed to
_NAME = re.compile(r"step-(\d+)\.ckpt")


class NoWholeCheckpointError(ValueError):
    """A run has checkpoints, and none of them can be read; the message says what is wrong with each."""


@dataclass(frozen=True)
class SavedCheckpoint:
    """A checkpoint of a run.

    Args:
        step: optimizer steps done.
        bytes: size of the file when it was written.
        metrics: what was measured with these weights, and `epoch` and `step`.
        time: when it was written, in seconds since the epoch.
    """

    step: int
    bytes: int
    metrics: dict[str, Any] = field(default_factory=dict)
    time: float = 0.0

    @property
    def file(self) -> str:
        """Its name in the folder of checkpoints."""
        return f"step-{self.step:08d}.ckpt"

    @property
    def name(self) -> str:
        """Its name in the run's folder."""
        return f"{FOLDER}/{self.file}"


class Damaged(NamedTuple):
    """A checkpoint that cannot be read to its end, and what is wrong with it."""

    checkpoint: SavedCheckpoint
    damage: str


class CheckpointStore:
    """Writes, keeps, checks and finds the checkpoints of a run. One process at a time writes.

    Args:
        storage: the run's folder.
        options: which are kept and which is best; None where they are read alone: as the last writer had it.
    """

    def __init__(self, storage: Storage, options: CheckpointOptions | None = None) -> None:
        self.storage = storage
        self._options = options
        self._stale: set[str] = set()  # files of a course that was left; they go when there is a new one

    def begin(self, step: int) -> list[str]:
        """Makes the folder where it is missing, and clears away what a killed attempt left; where training begins.

        Checkpoints of steps after the one that the run goes on from stay until there is a new one, then they go too:
        they are of a course that was left.

        Args:
            step: optimizer steps done in the checkpoint that the run goes on from.

        Returns:
            The names of the files that were removed.
        """
        self.storage.create_folder(FOLDER)
        removed = self.storage.remove_leftovers(FOLDER)
        saved = self.saved()
        self._stale = {each.file for each in saved if each.step > step}
        kept = self._kept([each for each in saved if each.file not in self._stale])
        superfluous = [each for each in saved if each not in kept and each.file not in self._stale]
        for each in superfluous:
            self.storage.remove(each.name)
        self._link([each for each in saved if each not in superfluous])  # the one linked before may have been damaged
        return [*removed, *(each.file for each in superfluous)]

    def saved(self) -> list[SavedCheckpoint]:
        """The checkpoints, the newest last.

        Raises:
            OSError: the storage is not there.
        """
        recorded = {each.file: each for each in self._recorded()}
        found = []
        for file in self.storage.files(FOLDER):
            if match := _NAME.fullmatch(file.name):
                found.append(recorded.get(file.name) or SavedCheckpoint(int(match[1]), file.bytes, {}, file.modified))
        return sorted(found, key=lambda each: each.step)

    def save(self, write: Callable[[Path], object], step: int, metrics: Mapping[str, Any]) -> SavedCheckpoint:
        """Writes a checkpoint and removes those that are kept no longer.

        Args:
            write: writes it to a path that it is given.
            step: optimizer steps done; a checkpoint of the same step is replaced.
            metrics: what was measured with these weights; numbers that are not finite are left out.

        Raises:
            OSError: it could not be written; those that were there are as they were.
        """
        before = self.saved()
        new = SavedCheckpoint(step, 0)
        try:
            size = self.storage.write(new.name, write)
            finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
            new = SavedCheckpoint(step, size, finite, round(time.time(), 3))
            others = [each for each in before if each.step != step and each.file not in self._stale]
            kept = self._kept(sorted([*others, new], key=lambda each: each.step))
            self._write_record(kept)
        except BaseException:
            if all(each.step != step for each in before):
                self.storage.remove(new.name)
            raise
        self._stale = set()
        self._link(kept)
        for each in before:
            if each.step != step and each not in kept:
                self.storage.remove(each.name)
        return new

    def address(self, checkpoint: SavedCheckpoint) -> str:
        """Where a person finds it."""
        return f"{self.storage.address}/{checkpoint.name}"

    def fetch(self, checkpoint: SavedCheckpoint) -> Path:
        """A path on this node: the file itself, or a copy of an object, made once for all processes of the node."""
        return self.storage.fetch(checkpoint.name)

    def newest_whole(self) -> tuple[SavedCheckpoint | None, list[Damaged]]:
        """The newest checkpoint that can be read to its end, and what is wrong with those after it.

        Returns:
            The checkpoint, None where the run has none yet; and the damaged ones, the newest first.

        Raises:
            NoWholeCheckpointError: it has some, and all are damaged.
            OSError: the storage is not there.
        """
        there = self.saved()
        missing = [each for each in self._recorded() if each not in there]
        damaged: list[Damaged] = []
        for each in sorted([*there, *missing], key=lambda each: each.step, reverse=True):
            damage = self.damage(each)
            if damage is None:
                return each, damaged
            damaged.append(Damaged(each, damage))
        if damaged:
            told = "; ".join(f"{each.checkpoint.file}: {each.damage}" for each in damaged)
            raise NoWholeCheckpointError(
                f"none of the {len(damaged)} checkpoints in {self.storage.address}/{FOLDER} can be read ({told})"
            )
        return None, damaged

    def set_aside(self, damaged: Sequence[Damaged], found: SavedCheckpoint, say: Callable[[str], None]) -> None:
        """Renames damaged checkpoints, so that nothing takes them for checkpoints or removes them as such.

        Args:
            damaged: as from `newest_whole`.
            found: the one that the run goes on from.
            say: gets a line for each.
        """
        for each, damage in damaged:
            say(
                f"checkpoint {self.address(each)} is damaged ({damage}); going on from the one before it that is "
                f"whole, {self.address(found)}, step {found.step}"
            )
            self.storage.rename(each.name, each.name + DAMAGED_SUFFIX)  # where it cannot be, it is passed by again
        if damaged:
            gone = [each.checkpoint for each in damaged]
            self._write_record([each for each in self._recorded() if each not in gone])

    def damage(self, checkpoint: SavedCheckpoint) -> str | None:
        """What is wrong with a checkpoint's file; None where it is whole."""
        try:
            return damage_of(self.fetch(checkpoint), checkpoint.bytes)
        except OSError as error:
            return "it is missing" if isinstance(error, FileNotFoundError) else f"it cannot be read: {error}"

    def publish(self) -> dict[str, SavedCheckpoint]:
        """Gives last.ckpt and best.ckpt to whole checkpoints, at the end of a run; reads them to their ends.

        Returns:
            By `best` and `last`; empty where no checkpoint is whole.

        Raises:
            OSError: the storage is not there, or cannot copy.
        """
        whole = self.saved()
        while whole and self.damage(whole[-1]) is not None:
            whole.pop()
        if not whole:
            return {}
        best = next(each for each in self._best_first(whole) if each is whole[-1] or self.damage(each) is None)
        for alias, each in ((LAST, whole[-1]), (BEST, best)):
            self.storage.link(each.name, alias)
        return {"best": best, "last": whole[-1]}

    def _kept(self, saved: list[SavedCheckpoint]) -> list[SavedCheckpoint]:
        """Those that stay, in the order of their steps."""
        options = self._options or CheckpointOptions()
        kept = to_keep(self._scores(saved), options.keep_newest, options.keep_best, self._best_by()[1])
        return [each for place, each in enumerate(saved) if place in kept]

    def _best_first(self, saved: list[SavedCheckpoint]) -> list[SavedCheckpoint]:
        """All of them: the scored ones, the best first, then the others, the newest first."""
        scored = [saved[place] for place in best_first(self._scores(saved), self._best_by()[1])]
        return [*scored, *(each for each in reversed(saved) if each not in scored)]

    def _scores(self, saved: list[SavedCheckpoint]) -> list[float | None]:
        return [each.metrics.get(self._best_by()[0]) for each in saved]

    def _best_by(self) -> tuple[str, str]:
        """Metric and mode."""
        if self._options is not None:
            return self._options.monitor, self._options.monitor_mode
        record = self._read_record()
        return str(record.get("monitor")), str(record.get("monitor_mode"))

    def _link(self, saved: list[SavedCheckpoint]) -> None:
        """While training last.ckpt and best.ckpt follow where that costs nothing; `publish` makes them in any case."""
        if self.storage.is_local and saved:
            with suppress(OSError):
                self.storage.link(saved[-1].name, LAST)
                self.storage.link(self._best_first(saved)[0].name, BEST)

    def _recorded(self) -> list[SavedCheckpoint]:
        """What the record names."""
        names = ("step", "bytes", "metrics", "time")
        return [SavedCheckpoint(**{name: each[name] for name in names}) for each in self._read_record()["checkpoints"]]

    def _read_record(self) -> dict[str, Any]:
        """Empty where there is none, or not ours: what it says can be done without."""
        try:
            record = json.loads(self.storage.read(RECORD) or b"{}")
            return {"checkpoints": [], **record}
        except ValueError:
            return {"checkpoints": []}

    def _write_record(self, saved: list[SavedCheckpoint]) -> None:
        monitor, mode = self._best_by()
        lines = [{"file": each.file, **asdict(each)} for each in saved]
        content = json.dumps({"monitor": monitor, "monitor_mode": mode, "checkpoints": lines}, indent=1) + "\n"
        self.storage.write(RECORD, lambda path: path.write_text(content, encoding="utf-8"))
