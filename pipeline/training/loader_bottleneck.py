"""Whether training waits for the loader or for the model: the times of a step, and one sentence on what to change."""

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pytorch_lightning.profilers import PassThroughProfiler

from lightning_modules.tasks.lightning_internals import TRANSFER_SPAN, WAIT_SPAN
from pipeline.processes.machine import num_processors

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
    share = max(0.0, spent.waited / spent.elapsed) if spent.elapsed > 0 else 0.0  # that of the first batch is taken off
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
        most = max(1, (processors or num_processors()) // ranks)
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


class StepTimer(PassThroughProfiler):
    """Profiler of every fit that has no other: adds up two of the spans that Lightning reports.

    Attributes:
        wait_s: seconds in which the next batch was waited for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._began: dict[str, float] = {}
        self._transfers: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._transfer_s = 0.0
        self.wait_s = 0.0

    def start(self, action_name: str) -> None:
        """A span begins."""
        if action_name == WAIT_SPAN:
            self._began[WAIT_SPAN] = time.perf_counter()
        elif action_name.endswith(TRANSFER_SPAN):
            self._began[TRANSFER_SPAN] = time.perf_counter()
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                pair = _event(), _event()
                pair[0].record()
                self._transfers.append(pair)

    def stop(self, action_name: str) -> None:
        """It ends."""
        if action_name == WAIT_SPAN and WAIT_SPAN in self._began:
            self.wait_s += time.perf_counter() - self._began.pop(WAIT_SPAN)
        elif action_name.endswith(TRANSFER_SPAN) and TRANSFER_SPAN in self._began:
            seconds = time.perf_counter() - self._began.pop(TRANSFER_SPAN)
            if self._transfers:
                self._transfers[-1][1].record()
            else:
                self._transfer_s += seconds

    def take(self) -> tuple[float, float]:
        """Seconds waited and seconds of transfer since the call before; on GPUs the transfer is the device's time.

        Waits for the device where it has one.
        """
        if self._transfers:
            torch.cuda.synchronize()
            self._transfer_s += sum(begin.elapsed_time(end) for begin, end in self._transfers) / 1000
        taken = self.wait_s, self._transfer_s
        self._transfers, self._transfer_s, self.wait_s = [], 0.0, 0.0
        return taken


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
