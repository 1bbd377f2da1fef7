"""WorkerHeartbeats: table in shared memory in which each data loader worker records the video that it reads.

The training process creates and reads the table (`datamodules.loading.worker_watchdog`); everything else here runs in
the workers.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import get_worker_info

IDLE = -1
PID, ROW, RECORDS = range(3)
_PARENT_CHECK_S = 2.0


class WorkerHeartbeats:
    """Heartbeats of workers in shared memory; can be sent to workers under fork, forkserver and spawn.

    Args:
        num_workers: number of workers of the DataLoader.
    """

    def __init__(self, num_workers: int) -> None:
        self._shared = torch.zeros((num_workers, 3), dtype=torch.int64)
        self._shared.share_memory_()  # type: ignore[no-untyped-call]
        self._shared[:, ROW] = IDLE
        self._owner = os.getpid()

    def register_worker(self, worker: int) -> None:
        """Registers a worker and makes it exit when the training process dies; called in the worker at its start.

        Ctrl-C, which reaches all processes of a terminal, is ignored: the training process may want to finish its step.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # not blocked if the fork server was started earlier
        self._shared[worker, PID] = os.getpid()
        processes = (os.getppid(), self._owner)
        threading.Thread(target=_exit_with_parent, args=processes, daemon=True, name="end with parent").start()

    def record(self, row: int) -> None:
        """Records the row of the video that the worker begins to read, or `IDLE`; called in the worker."""
        worker = get_worker_info()
        if worker is not None:
            columns = self._shared.numpy()[worker.id]
            columns[ROW] = row
            columns[RECORDS] += 1

    def read(self) -> npt.NDArray[np.int64]:
        """Returns a copy of the table, int64 (num_workers, 3).

        Columns: `PID`, process id, 0 before the start; `ROW`, row being read or `IDLE`; `RECORDS`, number of records.
        """
        return np.array(self._shared.numpy(), dtype=np.int64)


def _exit_with_parent(parent: int, owner: int) -> None:
    """Exits when the parent or the training process dies.

    Torch checks the parent only between batches, so a stuck worker would outlive a killed run. The parent may also be a
    fork server, which lives as long as any of its workers.
    """
    start_time = _start_time(owner)
    while os.getppid() == parent and _start_time(owner) == start_time:
        time.sleep(_PARENT_CHECK_S)
    os._exit(1)


def _start_time(pid: int) -> str | None:
    """Start time of a process, which distinguishes it from a later one with the same id; None after its end."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        if sys.platform == "linux":
            return None
        return "" if _can_be_signaled(pid) else None
    return None if state in "ZX" else fields[18]


def _can_be_signaled(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
