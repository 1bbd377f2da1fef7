"""Which checkpoints of a run stay, which is best, and whether one is whole."""

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path


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
        scores: of checkpoints in the order of their steps; None, NaN or infinity where there is none.
        newest: how many of the newest, at least 1.
        best: how many of the best; some of them may be among the newest.
        mode: whether a higher (`max`) or a lower score (`min`) is better.
    """
    return {*range(len(scores))[-newest:], *best_first(scores, mode)[:best]}


def damage_of(path: Path, size: int) -> str | None:
    """What is wrong with a file that torch wrote, by the CRC-32 of each of its parts; None where all is as written.

    Args:
        path: of the file.
        size: in bytes, when it was written; a file of another size whose checksums fit is whole, and newer than that.

    Raises:
        OSError: it cannot be read.
    """
    now = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError):
        return f"it has {now} bytes of {size}" if now != size else "its table of contents cannot be read"
    return None if broken is None else f"the checksum of {broken} does not fit"
