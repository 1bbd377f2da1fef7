"""Diagnosis whether the loader or the model limits training: times of a step, and a sentence on what to change."""

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from pytorch_lightning.profilers import PassThroughProfiler

from datamodules.loading.loader_options import DEFAULT_WORKERS
from lightning_modules.tasks.lightning_internals import TRANSFER_SPAN, WAIT_SPAN
from pipeline.processes.machine import num_processors

_MIN_WAIT_SHARE = 0.05  # share of waiting below which a faster loader gains nothing noticeable


class TimeBreakdown(NamedTuple):
    """Accumulated times of a rank's training, in seconds.

    Attributes:
        elapsed: wall-clock time, without validation and saving.
        waited: part of `elapsed` spent waiting for the next batch.
        loading: time that data loader workers took to read, decode and crop the batches.
    """

    elapsed: float = 0.0
    waited: float = 0.0
    loading: float = 0.0

    def plus(self, *seconds: float) -> "TimeBreakdown":
        """Returns the sum with further seconds, in the order of the fields."""
        return TimeBreakdown(*(own + added for own, added in zip(self, seconds, strict=True)))


def report_bottleneck(
    times: TimeBreakdown,
    settings: Mapping[str, Any],
    encode: Mapping[str, Any],
    ranks: int = 1,
    processors: int | None = None,
) -> str:
    """Returns the sentence that names the bottleneck and what to change.

    Args:
        times: times of one rank, or their mean over ranks.
        settings: hyperparameters of the data module; changes of missing ones are not suggested.
        encode: how the videos are stored, as in `dataset.json`; empty if unknown.
        ranks: training processes on this machine.
        processors: processors of this machine; None asks the system.
    """
    share = max(0.0, times.waited / times.elapsed) if times.elapsed > 0 else 0.0  # the first batch is subtracted
    time = f"{100 * share:.0f} % of the time was waiting for data"
    if share < _MIN_WAIT_SHARE:
        return f"the model is the bottleneck: {time}; a faster loader would gain no more than that"
    changes = _suggest_changes(times, settings, encode, ranks, processors)
    return f"the loader is the bottleneck: {time}; {', or '.join(changes)}"


def _suggest_changes(
    times: TimeBreakdown, settings: Mapping[str, Any], encode: Mapping[str, Any], ranks: int, processors: int | None
) -> list[str]:
    changes: list[str] = []
    if "num_workers" in settings:
        workers = DEFAULT_WORKERS if settings["num_workers"] is None else settings["num_workers"]
        computing = max(times.elapsed - times.waited, 1e-9)
        needed_workers = max(workers + 1, math.ceil(times.loading / computing))  # to load as fast as the model computes
        max_workers = max(1, (processors or num_processors()) // ranks)
        if workers < max_workers:
            limit_phrase = (
                ""
                if needed_workers <= max_workers
                else f", as many as there are processors, where {needed_workers} would be needed"
            )
            changes.append(
                f"use more workers (num_workers={min(needed_workers, max_workers)}{limit_phrase}; it is {workers})"
            )
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
    """Short side that suffices for the crop (128 for 112, as in C3D); None unless the videos are 1.5 times larger."""
    crop = settings.get("crop_size")
    if crop is None or short_side is None:
        return None
    enough = 16 * math.ceil(crop / 0.875 / 16)
    return enough if short_side >= 1.5 * enough else None


class StepTimer(PassThroughProfiler):
    """Profiler of every fit whose config names none: accumulates the times of waiting for batches and of transfers.

    Attributes:
        wait_s: seconds spent waiting for the next batch since the last `take`.
    """

    def __init__(self) -> None:
        super().__init__()
        self._began: dict[str, float] = {}
        self._transfers: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._transfer_s = 0.0
        self.wait_s = 0.0

    def start(self, action_name: str) -> None:
        """Called by Lightning when a span begins."""
        if action_name == WAIT_SPAN:
            self._began[WAIT_SPAN] = time.perf_counter()
        elif action_name.endswith(TRANSFER_SPAN):
            self._began[TRANSFER_SPAN] = time.perf_counter()
            if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                pair = _timing_event(), _timing_event()
                pair[0].record()
                self._transfers.append(pair)

    def stop(self, action_name: str) -> None:
        """Called by Lightning when a span ends."""
        if action_name == WAIT_SPAN and WAIT_SPAN in self._began:
            self.wait_s += time.perf_counter() - self._began.pop(WAIT_SPAN)
        elif action_name.endswith(TRANSFER_SPAN) and TRANSFER_SPAN in self._began:
            seconds = time.perf_counter() - self._began.pop(TRANSFER_SPAN)
            if self._transfers:
                self._transfers[-1][1].record()
            else:
                self._transfer_s += seconds

    def take(self) -> tuple[float, float]:
        """Returns the seconds of waiting and of transfer since the previous call, and resets them.

        On GPUs the transfer is measured with CUDA events, and the call synchronizes the device.
        """
        if self._transfers:
            torch.cuda.synchronize()
            self._transfer_s += sum(begin.elapsed_time(end) for begin, end in self._transfers) / 1000
        taken = self.wait_s, self._transfer_s
        self._transfers, self._transfer_s, self.wait_s = [], 0.0, 0.0
        return taken


def _timing_event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
