"""Where the time of training goes: waiting for batches, and bringing them to the device."""

import time

import torch
from pytorch_lightning.profilers import PassThroughProfiler

from lightning_modules.tasks.lightning_internals import TRANSFER_SPAN, WAIT_SPAN


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
