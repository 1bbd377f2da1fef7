"""Selection of the checkpoints to keep and of the best, and the check for damage."""

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path


def best_first(scores: Sequence[float | None], mode: str) -> list[int]:
    """Returns the positions of the checkpoints with a score, the best first; among equals the later first.

    Args:
        scores: scores of the checkpoints in the order of their steps; None, NaN or infinity for no score.
        mode: whether a higher (`max`) or a lower score (`min`) is better.
    """
    sign = 1.0 if mode == "max" else -1.0
    scored = [(sign * score, place) for place, score in enumerate(scores) if score is not None and math.isfinite(score)]
    return [place for _, place in sorted(scored, reverse=True)]


def to_keep(scores: Sequence[float | None], newest: int, best: int, mode: str) -> set[int]:
    """Returns the positions of the checkpoints to keep.

    Args:
        scores: scores of the checkpoints in the order of their steps; None, NaN or infinity for no score.
        newest: number of newest checkpoints to keep, at least 1.
        best: number of best checkpoints to keep; they may be among the newest.
        mode: whether a higher (`max`) or a lower score (`min`) is better.
    """
    return {*range(len(scores))[-newest:], *best_first(scores, mode)[:best]}


def damage_of(path: Path, size: int) -> str | None:
    """Describes the damage of a file written by `torch.save`, found by the CRC-32 of its records; None if whole.

    Args:
        path: the path of the file.
        size: size in bytes when it was written; a file of another size with valid checksums is a newer, whole one.

    Raises:
        OSError: the file cannot be read.
    """
    now = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError):
        return f"it has {now} bytes of {size}" if now != size else "its table of contents cannot be read"
    return None if broken is None else f"the checksum of {broken} does not fit"
