"""Memory pool of batches: blocks are reused once nothing in the training process refers to them.

Fresh memory costs a page fault per 4 KiB at the first write: 4.7 ms for a clip of 64 x 224 x 224, against 1.1 ms for
memory written before, where decoding that clip takes 10 ms (benchmarks/README.md, "loading clips"). So a worker keeps
its blocks, which are shared memory, and a process that reads by itself keeps ordinary memory. The training process
marks a block as free in a table when its storage is garbage collected; the storage, not the received tensor, is
watched, so that views and NumPy arrays of a batch keep the block in use too.
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
_pools: "weakref.WeakValueDictionary[tuple[int, int], MemoryPool]" = weakref.WeakValueDictionary()


class _Block:
    """Uninitialized memory that is lent again and again.

    Args:
        num_bytes: size in bytes.
        is_shared: shared memory, or ordinary memory of this process.
    """

    def __init__(self, num_bytes: int, is_shared: bool) -> None:
        self.num_bytes = num_bytes
        # NumPy asks for huge pages, which cost a third at the first write.
        self._memory = shared_storage(num_bytes) if is_shared else np.empty(num_bytes, np.uint8)

    def storage(self) -> torch.UntypedStorage:
        """A storage of the memory: of this process' own a new one each time, as its end tells that nothing uses it."""
        memory = self._memory
        return memory if isinstance(memory, torch.UntypedStorage) else torch.from_numpy(memory).untyped_storage()


@dataclass(frozen=True)
class BlockLease:
    """Lease of a block, which is sent with the batch and returned by the training process.

    Attributes:
        pool_id: id of the `MemoryPool`.
        worker: number of the worker that owns the block.
        block: number of the block.
        ticket: unique number of the lease, so that a lease of a dead worker cannot free a block of its successor.
    """

    pool_id: tuple[int, int]
    worker: int
    block: int
    ticket: int

    def return_block(self) -> None:
        """Returns the block, so that its worker may write to it again."""
        pool = _pools.get(self.pool_id)
        if pool is not None:
            pool.free(self)

    def pin_memory(self) -> None:
        """Returns the block; called by torch, which pins a batch field by field, after the clips have been copied."""
        self.return_block()


class MemoryPool:
    """Pool of the blocks of all workers of a loader; can be sent to workers under fork, forkserver and spawn.

    Args:
        num_workers: number of workers of the DataLoader; with 0 the blocks are those of this process, in ordinary
            memory, and a process that is forked from it has a pool of its own.
        blocks: maximum number of blocks per worker; if all are leased, a batch gets memory that is not reused.
    """

    def __init__(self, num_workers: int, blocks: int) -> None:
        self._tickets = torch.zeros((max(1, num_workers), blocks), dtype=torch.int64)  # tickets; 0 is free
        self._is_shared = num_workers > 0
        if self._is_shared:
            self._tickets.share_memory_()  # type: ignore[no-untyped-call]
        self._name = (os.getpid(), next(_numbers))
        self._blocks: dict[int, _Block] | None = None  # blocks of the process that reads, in that process
        _pools[self._name] = self

    def lease(self, num_bytes: int) -> tuple[torch.UntypedStorage, BlockLease | None]:
        """Leases uninitialized memory; called in the process that reads: a worker, or without workers the only one.

        Args:
            num_bytes: minimum size in bytes.

        Returns:
            The storage, and the lease to send with the batch; None for memory that is not reused.
        """
        info = get_worker_info()
        assert (info is not None) == self._is_shared, "shared memory is lent to DataLoader workers, and to them alone"
        worker = 0 if info is None else info.id
        tickets = self._tickets.numpy()[worker]
        if self._blocks is None:
            self._blocks = {}
            tickets[:] = 0  # leases of a previous worker are of other blocks
        for number in (tickets == 0).nonzero()[0].tolist():
            block = self._blocks.get(number)
            if block is None or block.num_bytes < num_bytes:
                block = self._blocks[number] = _Block(num_bytes, self._is_shared)
            ticket = secrets.randbits(62) + 1
            tickets[number] = ticket
            return block.storage(), BlockLease(self._name, worker, number, ticket)
        return _Block(num_bytes, self._is_shared).storage(), None

    def free(self, lease: BlockLease) -> None:
        """Marks a leased block as free, so that its worker may write to it again."""
        tickets = self._tickets.numpy()[lease.worker]
        if tickets[lease.block] == lease.ticket:
            tickets[lease.block] = 0

    @property
    def num_leased(self) -> int:
        """Number of leased blocks."""
        return int(torch.count_nonzero(self._tickets))


class BatchBuffer:
    """Context that allocates the memory of one batch, and returns the block at exit unless the batch was sent.

    Args:
        memory: memory pool, whose blocks the training process reads without a copy; None for fresh memory.
    """

    def __init__(self, memory: MemoryPool | None) -> None:
        self._memory = memory
        self._lease: BlockLease | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._memory is not None and self._lease is not None:
            self._memory.free(self._lease)

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """Allocates an uninitialized uint8 tensor; called once."""
        if self._memory is None:
            return torch.from_numpy(np.empty(shape, np.uint8))  # NumPy uses huge pages, at a third of the cost
        block, self._lease = self._memory.lease(math.prod(shape))
        return torch.empty(0, dtype=torch.uint8).set_(block)[: math.prod(shape)].view(shape)

    def take_lease(self) -> BlockLease | None:
        """Returns the lease to send with the batch, which then belongs to the training process."""
        lease, self._lease = self._lease, None
        return lease


def return_when_collected(block: torch.UntypedStorage, lease: BlockLease) -> None:
    """Returns a lease when its storage is garbage collected; called in the training process for a received batch.

    Args:
        block: storage of the clips.
        lease: the lease; returned when no tensor, view or array refers to the storage any more.
    """
    weakref.finalize(block, lease.return_block).atexit = False
