"""The checkpoints of a run on the disk: written whole, the newest and the best kept, what a kill left cleared away."""

import json
import math
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from datamodules.storage.atomic_write import remove_partial_files, write_atomically
from pipeline.checkpoints.retention import best_first, damage_of, to_keep

CHECKPOINTS = "checkpoints"

SCORES = "scores.json"
LAST, BEST = "last.ckpt", "best.ckpt"
DAMAGED_SUFFIX = ".damaged"  # what a checkpoint that was met damaged is renamed to
_NAME = re.compile(r"step-(\d+)\.ckpt")


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes local checkpoints beside their place, syncs and renames them.

    Lightning's own writes into the system's folder for temporary files and moves from there: between two file systems
    that is a copy, and a kill within it, or a disk that is full, leaves half a checkpoint under the final name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Saves a checkpoint whole or not at all.

        Raises:
            OSError: it cannot be written; torch names no cause.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            with write_atomically(Path(path)) as temporary:
                torch.save(checkpoint, temporary)
        except RuntimeError as error:
            free = shutil.disk_usage(Path(path).parent).free
            raise OSError(f"checkpoint {path} cannot be written; {free / 2**20:.0f} MiB are free there") from error


class Kept(NamedTuple):
    """A checkpoint that is there."""

    step: int
    path: Path
    score: float | None


def checkpoints_in(folder: Path) -> list[Kept]:
    """The step checkpoints of a folder, by step; none where there is no folder."""
    scores = _read_scores(folder)
    found = [(match, path) for path in folder.glob("step-*.ckpt") if (match := _NAME.fullmatch(path.name))]
    return sorted(Kept(int(match[1]), path, scores.get(path.name)) for match, path in found)


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint of a folder that can be read to its end; None where there is none."""
    return newest_and_damaged(folder)[0]


def newest_and_damaged(folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """The newest checkpoint of a folder that can be read to its end, and what is wrong with those after it.

    Returns:
        The checkpoint, None where there is none; and the damaged ones, the newest first, each with its damage in words.
    """
    damaged: dict[Path, str] = {}
    for kept in reversed(checkpoints_in(folder)):
        try:
            damage = damage_of(kept.path)
        except FileNotFoundError:  # another rank has just renamed it
            continue
        except OSError as error:
            damage = f"it cannot be read: {error}"
        if damage is None:
            return kept.path, damaged
        damaged[kept.path] = damage
    return None, damaged


class CheckpointFolder:
    """Keeps the newest and the best checkpoints of a folder and removes the others.

    Args:
        path: of the folder.
        keep_newest: how many of the newest.
        keep_best: how many of the best besides, of those that have a score.
        mode: whether a higher (`max`) or a lower score is better.
    """

    def __init__(self, path: Path, keep_newest: int, keep_best: int, mode: Literal["max", "min"]) -> None:
        self.path = path
        self._keep = (keep_newest, keep_best)
        self._mode = mode
        self._stale: list[str] = []

    def begin(self, step: int) -> int:
        """Clears away what a killed attempt left; call it while nobody writes there.

        Checkpoints of steps after the one that the run goes on from stay until there is a new one, then they go too:
        they are of a course that was left.

        Args:
            step: that the run goes on from.

        Returns:
            How many files were removed.
        """
        if not self.path.is_dir():
            return 0
        removed = remove_partial_files(self.path)
        self._stale = [kept.path.name for kept in checkpoints_in(self.path) if kept.step > step]
        removed += self._prune()
        self._link()  # what a link named may have been renamed, being damaged
        return removed

    def add(self, path: Path, score: float | None) -> None:
        """Takes note of a checkpoint that has just been written, and removes those that it makes superfluous."""
        scores = _read_scores(self.path)
        scores.pop(path.name, None)
        if score is not None and math.isfinite(score):
            scores[path.name] = score
        for name in self._stale:
            if name != path.name:
                (self.path / name).unlink(missing_ok=True)
        self._stale = []
        self._write_scores(scores)
        self._prune()
        self._link()

    def _prune(self) -> int:
        """Removes all but the newest and the best; those of a course that was left are not looked at."""
        found = [kept for kept in checkpoints_in(self.path) if kept.path.name not in self._stale]
        chosen = to_keep([kept.score for kept in found], *self._keep, self._mode)
        superfluous = [kept.path for place, kept in enumerate(found) if place not in chosen]
        for path in superfluous:
            path.unlink(missing_ok=True)
        return len(superfluous)

    def _link(self) -> None:
        found = checkpoints_in(self.path)
        best = best_first([kept.score for kept in found], self._mode)[:1]
        links = {LAST: found[-1:], BEST: [found[place] for place in best]}
        for name, kept in links.items():
            temporary = self.path / f".{name}.link"
            with suppress(OSError):  # a file system without links does without
                temporary.unlink(missing_ok=True)
                if kept:
                    temporary.symlink_to(kept[0].path.name)
                    temporary.replace(self.path / name)

    def _write_scores(self, scores: dict[str, float]) -> None:
        there = {name: score for name, score in scores.items() if (self.path / name).exists()}
        with write_atomically(self.path / SCORES) as temporary:
            temporary.write_text(json.dumps(there, indent=1) + "\n", encoding="utf-8")


def _read_scores(folder: Path) -> dict[str, float]:
    try:
        scores = json.loads((folder / SCORES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(name): float(score) for name, score in scores.items()} if isinstance(scores, dict) else {}
