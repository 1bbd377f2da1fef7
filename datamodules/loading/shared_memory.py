"""Shared memory pool of data loader workers: blocks are reused once nothing in the training process refers to them.

Fresh memory costs a page fault per 4 KiB at the first write: 4.7 ms for a clip of 64 x 224 x 224, against 1.1 ms for
memory written before, where decoding that clip takes 10 ms (benchmarks/README.md, "loading clips"). So a worker keeps
its blocks. The training process marks a block as free in a shared table when its storage is garbage collected; the
storage, not the received tensor, is watched, so that views and NumPy arrays of a batch keep the block in use too.
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
_pools: "weakref.WeakValueDictionary[tuple[int, int], SharedMemoryPool]" = weakref.WeakValueDictionary()


@dataclass(frozen=True)
class BlockLease:
    """Lease of a block, which is sent with the batch and returned by the training process.

    Attributes:
        pool_id: id of the `SharedMemoryPool`.
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


class SharedMemoryPool:
    """Pool of the blocks of all workers of a loader; can be sent to workers under fork, forkserver and spawn.

    Args:
        num_workers: number of workers of the DataLoader.
        blocks: maximum number of blocks per worker; if all are leased, a batch gets memory that is not reused.
    """

    def __init__(self, num_workers: int, blocks: int) -> None:
        self._tickets = torch.zeros((num_workers, blocks), dtype=torch.int64)  # tickets; 0 is free
        self._tickets.share_memory_()  # type: ignore[no-untyped-call]
        self._name = (os.getpid(), next(_numbers))
        self._blocks: dict[int, torch.UntypedStorage] | None = None  # blocks of this worker, in a worker
        _pools[self._name] = self

    def lease(self, num_bytes: int) -> tuple[torch.UntypedStorage, BlockLease | None]:
        """Leases uninitialized shared memory; called in a worker.

        Args:
            num_bytes: minimum size in bytes.

        Returns:
            The storage, and the lease to send with the batch; None for memory that is not reused.
        """
        worker = get_worker_info()
        assert worker is not None, "batches are lent to DataLoader workers alone"
        tickets = self._tickets.numpy()[worker.id]
        if self._blocks is None:
            self._blocks = {}
            tickets[:] = 0  # leases of a previous worker are of other blocks
        for block in (tickets == 0).nonzero()[0].tolist():
            storage = self._blocks.get(block)
            if storage is None or storage.nbytes() < num_bytes:
                storage = self._blocks[block] = shared_storage(num_bytes)
            ticket = secrets.randbits(62) + 1
            tickets[block] = ticket
            return storage, BlockLease(self._name, worker.id, block, ticket)
        return shared_storage(num_bytes), None

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
        memory: shared memory pool, which the training process reads without a copy; None for ordinary memory.
    """

    def __init__(self, memory: SharedMemoryPool | None) -> None:
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
