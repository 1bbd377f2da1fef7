"""Shared memory that loader workers write batches into, used again once nothing in the training process holds it.

Memory that is fresh costs a page fault for every 4 KiB when it is first written: 4.7 ms for a clip of 64 x 224 x 224,
against 1.1 for memory that was written before, where decoding that clip takes 10 (benchmarks/README.md, "loading
clips"). So a worker keeps the blocks that it made. The training process says on a board when it has let go of one: it
watches the block itself, not the tensor that came, so that a view or a numpy array of a batch holds it as well.
"""

import itertools
import math
import os
import secrets
import weakref
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from datamodules.loading.torch_internals import shared_storage

_numbers = itertools.count()
_made_here: "weakref.WeakValueDictionary[tuple[int, int], SharedMemoryPool]" = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class BufferLease:
    """That a block is in use; it travels with the batch, and means something in the training process alone.

    Attributes:
        memory: which `SharedMemoryPool`.
        worker: whose block.
        block: its number.
        ticket: of this loan and no other: a block of a worker that is gone cannot free that of its successor.
    """

    memory: tuple[int, int]
    worker: int
    block: int
    ticket: int

    def give_back(self) -> None:
        """Nothing holds the block any more: its worker may write to it."""
        memory = _made_here.get(self.memory)
        if memory is not None:
            memory.take_back(self)

    def pin_memory(self) -> None:
        """Called by torch, which pins a batch field by field, this one after the clips: they have been copied."""
        self.give_back()


class SharedMemoryPool:
    """The blocks of all workers of a loader, and which are lent; travels to them under fork, forkserver and spawn.

    Args:
        num_workers: of the DataLoader.
        blocks: that a worker keeps at most; where all are lent, a batch gets memory that is not used again.
    """

    def __init__(self, num_workers: int, blocks: int) -> None:
        self._lent = torch.zeros((num_workers, blocks), dtype=torch.int64)  # tickets; 0 is free
        self._lent.share_memory_()  # type: ignore[no-untyped-call]
        self._name = (os.getpid(), next(_numbers))
        self._blocks: dict[int, torch.UntypedStorage] | None = None  # a worker's own
        _made_here[self._name] = self

    def lend(self, num_bytes: int) -> tuple[torch.UntypedStorage, BufferLease | None]:
        """Called in a worker: shared memory of at least so many bytes, whatever they hold, and the loan to send along.

        Args:
            num_bytes: of the batch.
        """
        worker = get_worker_info()
        assert worker is not None, "batches are lent to DataLoader workers alone"
        mine = self._lent.numpy()[worker.id]
        if self._blocks is None:
            self._blocks = {}
            mine[:] = 0  # what a worker before this one had lent are other blocks
        for block in (mine == 0).nonzero()[0].tolist():
            storage = self._blocks.get(block)
            if storage is None or storage.nbytes() < num_bytes:
                storage = self._blocks[block] = shared_storage(num_bytes)
            ticket = secrets.randbits(62) + 1
            mine[block] = ticket
            return storage, BufferLease(self._name, worker.id, block, ticket)
        return shared_storage(num_bytes), None

    def take_back(self, loan: BufferLease) -> None:
        """Its worker may write to the block again."""
        mine = self._lent.numpy()[loan.worker]
        if mine[loan.block] == loan.ticket:
            mine[loan.block] = 0

    @property
    def num_lent(self) -> int:
        """Blocks in use."""
        return int(torch.count_nonzero(self._lent))


class BatchBuffer:
    """Where one batch is written, and whether it is sent: a block that is not is given back when the context ends.

    Args:
        memory: of the worker, which the training process reads without a copy; None gives ordinary memory.
    """

    def __init__(self, memory: SharedMemoryPool | None) -> None:
        self._memory = memory
        self._loan: BufferLease | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._memory is not None and self._loan is not None:
            self._memory.take_back(self._loan)

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """A uint8 tensor that may hold anything; to be called once."""
        if self._memory is None:
            return torch.from_numpy(np.empty(shape, np.uint8))  # in huge pages, which come at a third
        block, self._loan = self._memory.lend(math.prod(shape))
        return torch.empty(0, dtype=torch.uint8).set_(block)[: math.prod(shape)].view(shape)

    def send(self) -> BufferLease | None:
        """What is to travel with the batch, which is the training process's now."""
        loan, self._loan = self._loan, None
        return loan


def give_back_when_dropped(block: torch.UntypedStorage, loan: BufferLease) -> None:
    """Called in the training process, for a batch that has come.

    Args:
        block: the memory of the clips.
        loan: that came with it; given back when no tensor, view or array has the memory any more.
    """
    weakref.finalize(block, loan.give_back).atexit = False
