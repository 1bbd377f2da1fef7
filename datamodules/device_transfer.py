"""Transfers between host and GPU for which neither waits: of batches one ahead, of small tensors, and of flags back."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.batch import ClipBatch


def move_to_device(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; to a GPU from page-locked memory, so that the host does not wait."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


class HostFlag:
    """A flag on its way from the device to the host, which waits for it only when it is read.

    Args:
        flag: bool scalar.
    """

    def __init__(self, flag: Tensor) -> None:
        self._flag = flag.to("cpu", non_blocking=True)
        self._arrival = torch.cuda.current_stream(flag.device).record_event() if flag.is_cuda else None

    def read(self) -> bool:
        """The flag."""
        if self._arrival is not None:
            self._arrival.synchronize()
        return bool(self._flag.numpy())


class MovingBatch(NamedTuple):
    """A batch on its way to a device.

    Attributes:
        batch: the batch, with tensors on the device whose content may not have arrived yet.
        arrival: the event after the copies; None where they are done.
    """

    batch: ClipBatch
    arrival: torch.cuda.Event | None


class DeviceTransfer:
    """Copies batches to a device, on a CUDA stream of its own if that is a GPU.

    Copies from page-locked memory then wait for nothing that the device computes, and the host waits for neither.

    Args:
        device: the device; on a CPU the batches are as they were.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = _new_stream(device) if device.type == "cuda" else None

    def begin(self, batch: ClipBatch) -> MovingBatch:
        """Starts to copy a batch."""
        if self._stream is None:
            return MovingBatch(batch.to(self._device), None)
        with torch.cuda.stream(self._stream):
            return MovingBatch(batch.to(self._device), self._stream.record_event())

    def end(self, moving: MovingBatch) -> ClipBatch:
        """The batch, for use on the current stream, which waits for the copies; the host does not."""
        if moving.arrival is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_event(moving.arrival)
            for tensor in moving.batch:
                if isinstance(tensor, Tensor):  # its memory is not reused before what the current stream does with it
                    tensor.record_stream(current)
        return moving.batch


def move_one_ahead(batches: Iterable[ClipBatch], transfer: DeviceTransfer) -> Iterator[ClipBatch]:
    """Yields batches on a device; the transfer of each begins before the one in front of it is handed out.

    Reading begins at the first `next`. An error of reading or transfer is raised where its own batch would have come,
    after all before it; what is not an `Exception`, such as an interrupt, at once.

    Args:
        batches: the batches on the host.
        transfer: transfer to the device.
    """
    source = iter(batches)
    following = _begin_next(source, transfer)
    while following is not None:
        present = following
        if isinstance(present, Exception):
            raise present
        following = _begin_next(source, transfer)
        yield transfer.end(present)


def _begin_next(source: Iterator[ClipBatch], transfer: DeviceTransfer) -> MovingBatch | Exception | None:
    """Starts to move the next batch; the error if there is one, None at the end."""
    try:
        batch = next(source, None)
        return None if batch is None else transfer.begin(batch)
    except Exception as error:
        return error


def _new_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
