"""Where each DataLoader worker notes what it reads, for the training process to see: a board in shared memory.

The training process makes it and looks at it, and acts on what it sees in `datamodules.loading.worker_watchdog`; all
else here runs in the workers.
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
PID, ROW, NOTES = range(3)
_PARENT_CHECK_S = 2.0


class WorkerHeartbeats:
    """Where workers note what they read: shared memory that travels to them under fork, forkserver and spawn.

    Args:
        num_workers: of the DataLoader.
    """

    def __init__(self, num_workers: int) -> None:
        self._shared = torch.zeros((num_workers, 3), dtype=torch.int64)
        self._shared.share_memory_()  # type: ignore[no-untyped-call]
        self._shared[:, ROW] = IDLE
        self._owner = os.getpid()

    def enter(self, worker: int) -> None:
        """Called in a worker when it starts: from now on it also ends when the training process is gone.

        It goes on at Ctrl-C, which reaches all processes of a terminal: the training process may want to end its step.
        """
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # where another has started the fork server, it is not blocked
        self._shared[worker, PID] = os.getpid()
        processes = (os.getppid(), self._owner)
        threading.Thread(target=_end_with, args=processes, daemon=True, name="end with parent").start()

    def note(self, row: int) -> None:
        """Called in a worker: it begins to read the video of this row, or has nothing to read (`IDLE`)."""
        worker = get_worker_info()
        if worker is not None:
            mine = self._shared.numpy()[worker.id]
            mine[ROW] = row
            mine[NOTES] += 1

    def look(self) -> npt.NDArray[np.int64]:
        """A copy, int64 (num_workers, 3).

        Its columns: `PID`, the process id (0 before it has started); `ROW`; `NOTES`, the number of notes made.
        """
        return np.array(self._shared.numpy(), dtype=np.int64)


def _end_with(parent: int, owner: int) -> None:
    """Torch's own look after the parent is between two batches: a worker that is stuck would outlive a killed run.

    And the parent may be a fork server, which for its part stays as long as one of its workers does.
    """
    born = _birth(owner)
    while os.getppid() == parent and _birth(owner) == born:
        time.sleep(_PARENT_CHECK_S)
    os._exit(1)


def _birth(pid: int) -> str | None:
    """When a process began, which tells it from a later one of the same number; None once it has ended."""
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
