"""CheckpointStore: the checkpoints of a run, in `checkpoints/` of its folder, for `fit` on a laptop and for jobs.

A checkpoint is a file called `step-{step:08d}.ckpt`. It is written to a temporary file and renamed, so a kill, a full
disk or a lost mount leaves existing checkpoints intact. `checkpoints.json` beside them records the metrics measured
with each; a file that it does not name, such as one that was copied back, is a checkpoint all the same.

A sharded checkpoint is a folder called `step-{step:08d}.sharded` (`lightning_modules.weights.sharded_checkpoint`). Its
content.ckpt is such a file, written when all ranks have written their shards: without it, the folder is no checkpoint.

A checkpoint is validated by the CRC-32 that torch writes for each of its records: all bytes are read when a run
restarts, and nothing is computed during training. A checksum of our own would find the same damage at the cost of
another pass over the file for each checkpoint.

Lightning's ModelCheckpoint is not used: it keeps the newest or the best, and stores the list of kept files in the
checkpoints themselves, so that each restart leaves files that are never removed. Neither is Ray Train's manager: it
keeps the K best and the one newest, or the K newest, and knows of a checkpoint once its controller asked the rank.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from lightning_modules.weights.sharded_checkpoint import CONTENT_NAME, find_shard_damage, shards_folder
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_record import (
    FOLDER,
    CheckpointRecord,
    is_sharded_name,
    list_checkpoints,
    read_content,
    read_records,
    write_records,
)
from pipeline.checkpoints.retention import find_damage, positions_to_keep, rank_by_score
from pipeline.checkpoints.storage import Storage

LAST, BEST = "last.ckpt", "best.ckpt"
DAMAGED_SUFFIX = ".damaged"  # appended to the name of a checkpoint found damaged


class NoIntactCheckpointError(ValueError):
    """Raised when all checkpoints of a run are damaged; the message says what is wrong with each."""


class DamagedCheckpoint(NamedTuple):
    """A damaged checkpoint, with a description of the damage."""

    checkpoint: CheckpointRecord
    damage: str


class CheckpointStore:
    """Store that saves, prunes, validates and finds the checkpoints of a run; at most one process may write.

    Args:
        storage: storage of the run's folder.
        options: which checkpoints are kept and which is best; None, for reading only, takes the last writer's metric.
    """

    def __init__(self, storage: Storage, options: CheckpointOptions | None = None) -> None:
        self.storage = storage
        self._options = options
        self._stale: set[str] = set()  # files of an abandoned course of training; removed at the next save

    def begin(self, step: int) -> list[str]:
        """Creates the folder and removes leftovers of a killed attempt; called when training begins.

        Checkpoints of later steps than `step` belong to an abandoned course of training; they are removed at the next
        save, not before.

        Args:
            step: optimizer steps done in the checkpoint that the run resumes from; 0 for a new run.

        Returns:
            The names of the removed files.
        """
        self.storage.create_folder(FOLDER)
        removed = self.storage.remove_leftovers(FOLDER)
        saved = self.list_checkpoints()
        self._stale = {each.file for each in saved if each.step > step}
        kept = self._select_kept([each for each in saved if each.file not in self._stale])
        superfluous = [each for each in saved if each not in kept and each.file not in self._stale]
        for each in superfluous:
            self.storage.remove(each.name)
        removed += self._remove_unused_shards(saved)
        self._link_aliases([each for each in saved if each not in superfluous])  # the linked one may be damaged
        return [*removed, *(each.file for each in superfluous)]

    def list_checkpoints(self) -> list[CheckpointRecord]:
        """Lists the checkpoints, the newest last.

        Raises:
            OSError: the storage cannot be reached.
        """
        return list_checkpoints(self.storage)

    def save(
        self, write: Callable[[Path], object], step: int, metrics: Mapping[str, Any], shards: str = ""
    ) -> CheckpointRecord:
        """Writes a checkpoint and removes those that are no longer kept.

        Args:
            write: function that writes the checkpoint, or the content of a sharded one, to the given path.
            step: optimizer steps done; a checkpoint of the same step is replaced.
            metrics: metrics measured with these weights; values that are not finite are left out.
            shards: name of the folder, in that of the checkpoint, that all ranks have written shards to.

        Raises:
            OSError: the checkpoint could not be written; existing checkpoints are unchanged.
        """
        before = self.list_checkpoints()
        new = CheckpointRecord(step, 0, sharded=bool(shards))
        try:
            size = self.storage.write(f"{new.name}/{CONTENT_NAME}" if shards else new.name, write)
            if shards:
                size += sum(file.bytes for file in self.storage.files(f"{new.name}/{shards}"))
            finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
            new = CheckpointRecord(step, size, finite, round(time.time(), 3), sharded=bool(shards))
            others = [each for each in before if each.step != step and each.file not in self._stale]
            kept = self._select_kept(sorted([*others, new], key=lambda each: each.step))
            self._write_records(kept)
        except BaseException:
            if all(each.file != new.file for each in before):
                self.storage.remove(new.name)
            raise
        self._stale = set()
        self._link_aliases(kept)
        for each in before:
            if each.file != new.file and each not in kept:
                self.storage.remove(each.name)
        for name in self.storage.folders(new.name) if shards else ():
            if name != shards:  # of an earlier checkpoint of this step
                self.storage.remove(f"{new.name}/{name}")
        return new

    def _remove_unused_shards(self, saved: list[CheckpointRecord]) -> list[str]:
        """Removes folders of shards that a kill left without content, or beside others; returns their names."""
        whole = [each.file for each in saved]
        removed = [name for name in self.storage.folders(FOLDER) if is_sharded_name(name) and name not in whole]
        for each in saved:
            if each.sharded:
                self.storage.remove_leftovers(each.name)
            if each.sharded and len(names := self.storage.folders(each.name)) > 1:
                with suppress(ValueError, OSError, KeyError):  # damaged, which others tell
                    used = shards_folder(self.fetch(each)).name
                    removed += [f"{each.file}/{name}" for name in names if name != used]
        for name in removed:
            self.storage.remove(f"{FOLDER}/{name}")
        return removed

    def address(self, checkpoint: CheckpointRecord) -> str:
        """Returns the full path or URI of a checkpoint, for messages."""
        return f"{self.storage.address}/{checkpoint.name}"

    def fetch(self, checkpoint: CheckpointRecord) -> Path:
        """Returns a local path: the file itself, or a copy of the object, made once per node."""
        return self.storage.fetch(checkpoint.name)

    def find_newest_intact(self) -> tuple[CheckpointRecord | None, list[DamagedCheckpoint]]:
        """Finds the newest undamaged checkpoint, and the damaged ones that are newer.

        Returns:
            The checkpoint, None if the run has none yet; and the damaged ones, the newest first.

        Raises:
            NoIntactCheckpointError: the run has checkpoints, and all are damaged.
            OSError: the storage cannot be reached.
        """
        listed = self.list_checkpoints()
        missing = [each for each in read_records(self.storage) if each not in listed]
        damaged: list[DamagedCheckpoint] = []
        for each in sorted([*listed, *missing], key=lambda each: each.step, reverse=True):
            damage = self.find_damage(each)
            if damage is None:
                return each, damaged
            damaged.append(DamagedCheckpoint(each, damage))
        if damaged:
            damages = "; ".join(f"{each.checkpoint.file}: {each.damage}" for each in damaged)
            raise NoIntactCheckpointError(
                f"none of the {len(damaged)} checkpoints in {self.storage.address}/{FOLDER} can be read ({damages})"
            )
        return None, damaged

    def find_best_intact(self) -> CheckpointRecord | None:
        """Finds the best undamaged checkpoint by the monitored metric; the newest if the metric was never measured.

        Returns:
            The checkpoint; None if the run has none yet, or if all are damaged.

        Raises:
            OSError: the storage cannot be reached.
        """
        ranked = self._sort_by_score(self.list_checkpoints())
        return next((each for each in ranked if self.find_damage(each) is None), None)

    def rename_damaged(
        self, damaged: Sequence[DamagedCheckpoint], resumed: CheckpointRecord, report: Callable[[str], None]
    ) -> None:
        """Renames damaged checkpoints, so that they are neither listed as checkpoints nor pruned.

        Args:
            damaged: damaged checkpoints, as returned by `find_newest_intact`.
            resumed: the checkpoint that the run resumes from.
            report: called with one line per damaged checkpoint.
        """
        for each, damage in damaged:
            report(
                f"checkpoint {self.address(each)} is damaged ({damage}); going on from the one before it that is "
                f"whole, {self.address(resumed)}, step {resumed.step}"
            )
            self.storage.rename(each.name, each.name + DAMAGED_SUFFIX)  # if this fails, it is skipped again next time
        if damaged:
            renamed = [each.checkpoint for each in damaged]
            self._write_records([each for each in read_records(self.storage) if each not in renamed])

    def find_damage(self, checkpoint: CheckpointRecord) -> str | None:
        """Describes the damage of a checkpoint's file; None if it is whole."""
        try:
            path = self.fetch(checkpoint)
            return find_shard_damage(path) if checkpoint.sharded else find_damage(path, checkpoint.bytes)
        except OSError as error:
            return "it is missing" if isinstance(error, FileNotFoundError) else f"it cannot be read: {error}"

    def publish(self) -> dict[str, CheckpointRecord]:
        """Links last.ckpt and best.ckpt to validated checkpoints; called at the end of a run.

        Returns:
            The checkpoints by `best` and `last`; empty if no checkpoint is whole.

        Raises:
            OSError: the storage cannot be reached, or cannot copy.
        """
        whole = self.list_checkpoints()
        while whole and self.find_damage(whole[-1]) is not None:
            whole.pop()
        if not whole:
            return {}
        best = next(each for each in self._sort_by_score(whole) if each is whole[-1] or self.find_damage(each) is None)
        for alias, each in ((LAST, whole[-1]), (BEST, best)):
            self.storage.link(each.name, alias)
        return {"best": best, "last": whole[-1]}

    def describe_newest_and_best(self) -> str:
        """Where the newest and the best checkpoint are, of which steps, and the best one's score: a line of text.

        Raises:
            OSError: the storage cannot be reached.
        """
        saved = self.list_checkpoints()
        if not saved:
            return f"{self.storage.address} has no checkpoint"
        metric, best = self._monitored_metric()[0], self._sort_by_score(saved)[0]
        score = best.metrics.get(metric)
        told = f"{metric} was not measured" if score is None else f"{metric} {score:.4g}"
        last = f"{self.storage.address}/{LAST} is of step {saved[-1].step}"
        return f"{last}, {BEST} of step {best.step} ({told})"

    def _select_kept(self, saved: list[CheckpointRecord]) -> list[CheckpointRecord]:
        """Selects the checkpoints to keep, in the order of their steps."""
        options = self._options or CheckpointOptions()
        kept = positions_to_keep(
            self._scores(saved), options.keep_newest, options.keep_best, self._monitored_metric()[1]
        )
        return [each for position, each in enumerate(saved) if position in kept]

    def _sort_by_score(self, saved: list[CheckpointRecord]) -> list[CheckpointRecord]:
        """Sorts all checkpoints: those with a score, the best first, then the others, the newest first."""
        scored = [saved[position] for position in rank_by_score(self._scores(saved), self._monitored_metric()[1])]
        return [*scored, *(each for each in reversed(saved) if each not in scored)]

    def _scores(self, saved: list[CheckpointRecord]) -> list[float | None]:
        return [each.metrics.get(self._monitored_metric()[0]) for each in saved]

    def _monitored_metric(self) -> tuple[str, str]:
        """Returns the monitored metric and its mode."""
        if self._options is not None:
            return self._options.metric, self._options.monitor_mode
        record = read_content(self.storage)
        return str(record.get("monitor")), str(record.get("monitor_mode"))

    def _link_aliases(self, saved: list[CheckpointRecord]) -> None:
        """Updates last.ckpt and best.ckpt during training on a local disk; `publish` creates them on any storage."""
        if self.storage.is_local and saved:
            with suppress(OSError):
                self.storage.link(saved[-1].name, LAST)
                self.storage.link(self._sort_by_score(saved)[0].name, BEST)

    def _write_records(self, saved: list[CheckpointRecord]) -> None:
        write_records(self.storage, saved, *self._monitored_metric())
