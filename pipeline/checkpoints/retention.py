"""Selection of the checkpoints to keep and of the best, and the check for damage."""

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path


def rank_by_score(scores: Sequence[float | None], mode: str) -> list[int]:
    """Returns the positions of the checkpoints with a score, the best first; among equals the later first.

    Args:
        scores: scores of the checkpoints in the order of their steps; None, NaN or infinity for no score.
        mode: whether a higher (`max`) or a lower score (`min`) is better.
    """
    sign = 1.0 if mode == "max" else -1.0
    scored = [
        (sign * score, position) for position, score in enumerate(scores) if score is not None and math.isfinite(score)
    ]
    return [position for _, position in sorted(scored, reverse=True)]


def positions_to_keep(scores: Sequence[float | None], newest: int, best: int, mode: str) -> set[int]:
    """Returns the positions of the checkpoints to keep.

    Args:
        scores: scores of the checkpoints in the order of their steps; None, NaN or infinity for no score.
        newest: number of newest checkpoints to keep, at least 1.
        best: number of best checkpoints to keep; they may be among the newest.
        mode: whether a higher (`max`) or a lower score (`min`) is better.
    """
    return {*range(len(scores))[-newest:], *rank_by_score(scores, mode)[:best]}


def find_damage(path: Path, size: int) -> str | None:
    """Describes the damage of a file written by `torch.save`, found by the CRC-32 of its records; None if whole.

    Args:
        path: the path of the file.
        size: size in bytes when it was written; a file of another size with valid checksums is a newer, whole one.

    Raises:
        OSError: the file cannot be read.
    """
    current_size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            damaged_record = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError):
        return (
            f"it has {current_size} bytes of {size}" if current_size != size else "its table of contents cannot be read"
        )
    return None if damaged_record is None else f"the checksum of {damaged_record} does not fit"
