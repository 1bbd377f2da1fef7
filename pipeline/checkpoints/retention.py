"""Which checkpoints of a run stay, which is best, whether one is whole: for a run's folder and a job's storage."""

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path


def checkpoint_name(step: int, digits: int = 8) -> str:
    """What the checkpoint of a step is called."""
    return f"step-{step:0{digits}d}.ckpt"


def best_first(scores: Sequence[float | None], mode: str) -> list[int]:
    """The positions of the scored checkpoints, the best first; of equals the later one.

    Args:
        scores: of checkpoints in the order of their steps; None, NaN or infinity where there is none.
        mode: whether a higher (`max`) or a lower score (`min`) is better.
    """
    sign = 1.0 if mode == "max" else -1.0
    scored = [(sign * score, place) for place, score in enumerate(scores) if score is not None and math.isfinite(score)]
    return [place for _, place in sorted(scored, reverse=True)]


def to_keep(scores: Sequence[float | None], newest: int, best: int, mode: str) -> set[int]:
    """The positions of the checkpoints that stay.

    Args:
        scores: as for `best_first`.
        newest: how many of the newest, at least 1.
        best: how many of the best; some of them may be among the newest.
        mode: as for `best_first`.
    """
    return {*range(len(scores))[-newest:], *best_first(scores, mode)[:best]}


def damage_of(path: Path, size: int | None = None) -> str | None:
    """What is wrong with a file that torch wrote, by the CRC-32 of each of its parts; None where all is as written.

    Args:
        path: of the file.
        size: that it had, in bytes, when it was written, where that is known.

    Raises:
        OSError: it cannot be read.
    """
    now = path.stat().st_size
    if size is not None and now != size:
        return f"it has {now} bytes of {size}"
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError):
        return "its table of contents cannot be read"
    return None if broken is None else f"the checksum of {broken} does not fit"


def is_whole(path: Path) -> bool:
    """Whether a checkpoint's file is there in full: reads it, and holds it against its checksums."""
    try:
        return damage_of(path) is None
    except OSError:
        return False
