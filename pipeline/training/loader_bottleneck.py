"""Which side of training is the bottleneck, the loader or the model, and what to change: one sentence."""

import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

_WAITING = 0.05  # with less than this share of waiting, a faster loader would gain nothing to speak of


class TimeBreakdown(NamedTuple):
    """Seconds of a rank's training, added up.

    Attributes:
        elapsed: of the clock, without validation and saving.
        waited: of it, for the next batch.
        loading: that workers took to read, decode and cut the batches.
    """

    elapsed: float = 0.0
    waited: float = 0.0
    loading: float = 0.0

    def plus(self, *seconds: float) -> "TimeBreakdown":
        """With more of each."""
        return TimeBreakdown(*(mine + more for mine, more in zip(self, seconds, strict=True)))


def report_bottleneck(
    spent: TimeBreakdown,
    settings: Mapping[str, Any],
    encode: Mapping[str, Any],
    ranks: int = 1,
    processors: int | None = None,
) -> str:
    """The sentence.

    Args:
        spent: of all ranks, or of one.
        settings: of the data module; what is not in it is not spoken of.
        encode: how the videos that are read are stored, as `dataset.json` says; empty where it is not known.
        ranks: processes of this machine that train.
        processors: of this machine; None asks the system.
    """
    share = spent.waited / spent.elapsed if spent.elapsed > 0 else 0.0
    time = f"{100 * share:.0f} % of the time was waiting for data"
    if share < _WAITING:
        return f"the model is the bottleneck: {time}; a faster loader would gain no more than that"
    changes = _changes(spent, settings, encode, ranks, processors)
    return f"the loader is the bottleneck: {time}; {', or '.join(changes)}"


def _changes(
    spent: TimeBreakdown, settings: Mapping[str, Any], encode: Mapping[str, Any], ranks: int, processors: int | None
) -> list[str]:
    changes: list[str] = []
    workers = settings.get("num_workers")
    if workers is not None:
        computing = max(spent.elapsed - spent.waited, 1e-9)
        needed = max(workers + 1, math.ceil(spent.loading / computing))  # to load in the time that the model takes
        most = max(1, (processors or os.cpu_count() or 1) // ranks)
        if workers < most:
            few = "" if needed <= most else f", as many as there are processors, where {needed} would be needed"
            changes.append(f"use more workers (num_workers={min(needed, most)}{few}; it is {workers})")
    short_side: int | None = encode.get("short_side")
    rendition = _smaller_rendition(settings, short_side)
    if rendition is not None:
        changes.append(
            f"use the {rendition} rendition (pack --short-side {short_side} {rendition} into a new folder, "
            f"resize={rendition}; videos of {short_side} are read)"
        )
    if encode and not encode.get("fast_decode", False):
        stored = "--copy stored them as they came" if encode.get("copy", False) else "it was off"
        changes.append(
            f"pack the videos again, to be decoded in half of the time (pack --fast-decode into a new folder; {stored})"
        )
    clips = settings.get("clips_per_video")
    if clips is not None:
        changes.append(f"take more clips per video (clips_per_video={2 * clips}; it is {clips})")
    return changes or ["use more workers, smaller videos or more clips per video"]


def _smaller_rendition(settings: Mapping[str, Any], short_side: int | None) -> int | None:
    """A short side that is enough for the crop, C3D's 128 for 112, where videos are read that are much larger."""
    crop = settings.get("crop_size")
    if crop is None or short_side is None:
        return None
    enough = 16 * math.ceil(crop / 0.875 / 16)
    return enough if short_side >= 1.5 * enough else None
