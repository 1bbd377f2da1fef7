"""WorkerWatchdog: detects dead and stuck data loader workers in the training process, and explains the failure.

torch reports a dead worker as "exited unexpectedly", and waits for a stuck one. Here every worker records which video
it reads (`datamodules.loading.worker_heartbeat`); a thread of the training process kills a worker whose video takes too
long, because a worker that is stuck in C code or stopped would block the end of the run.
"""

import multiprocessing
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import numpy as np
from torch.utils.data import DataLoader

from datamodules.loading.worker_heartbeat import IDLE, PID, ROW, WorkerHeartbeats

Result = TypeVar("Result")

_HINTS = {
    "SIGKILL": "as the system does when memory runs out",
    "SIGBUS": "as happens when /dev/shm is full",
    "SIGSEGV": "a crash inside a library, such as the decoder",
    "SIGABRT": "a crash inside a library, such as the decoder",
}
_watchdogs: "weakref.WeakSet[WorkerWatchdog]" = weakref.WeakSet()


class WorkerFailedError(ChildProcessError):
    """Raised when a worker died or was stuck; the message names the worker, its video, and what to do.

    Attributes:
        row: row of the video that the worker was reading; None if it was reading none.
        cause: the event in words, such as "was lost: killed by SIGKILL".
        is_stuck: whether the worker exceeded its time limit and was killed.
    """

    def __init__(self, message: str, row: int | None = None, cause: str = "", is_stuck: bool = False) -> None:
        super().__init__(message)
        self.row = row
        self.cause = cause
        self.is_stuck = is_stuck


class WorkerWatchdog:
    """Watchdog over the workers of one DataLoader, in the process that consumes its batches.

    Args:
        heartbeats: heartbeats of the workers.
        timeout_s: seconds that reading one video may take; 0 for no limit.
        describe: returns the name of a video for messages, given its row.
        advice: returns what to do about a video, given its row.
        raises_while_awaited: whether a failure is raised by `batches` alone, when the next batch is awaited, and not
            wherever the training process is when the worker dies.
    """

    def __init__(
        self,
        heartbeats: WorkerHeartbeats,
        timeout_s: float,
        describe: Callable[[int], str],
        advice: Callable[[int], str],
        raises_while_awaited: bool = False,
    ) -> None:
        self._heartbeats = heartbeats
        self._timeout_s = timeout_s
        self._describe = describe
        self._advice = advice
        self._raises_while_awaited = raises_while_awaited
        self._workers: dict[int, BaseProcess] = {}
        self._awaited_batch = 0  # number of the awaited batch; 0 if none is awaited
        self._stuck: dict[int, str] = {}  # reason by process id, for workers that the watchdog killed
        self._failure: WorkerFailedError | None = None

    def batches(self, loader: "DataLoader[Any]") -> Iterator[Any]:
        """Yields the batches of the loader.

        Raises:
            WorkerFailedError: a worker died, or was killed because it was stuck.
        """
        finished = threading.Event()
        thread = threading.Thread(target=self._kill_stuck_workers, args=(finished,), daemon=True, name="worker watch")
        try:
            number = self._awaited_batch = 1
            if self._workers and self._timeout_s > 0:
                thread.start()
            batches = self._call_loader(lambda: self._start_workers(loader))
            if thread.ident is None and self._timeout_s > 0:
                thread.start()  # not before the workers start: forked workers may inherit locks of a thread
            while True:
                if self._failure is not None:  # found out since the last batch
                    raise self._failure
                try:
                    batch = self._call_loader(lambda: next(batches))
                except StopIteration:
                    return
                self._awaited_batch = 0
                yield batch
                number += 1
                self._awaited_batch = number
        finally:
            finished.set()

    def _start_workers(self, loader: "DataLoader[Any]") -> Iterator[Any]:
        others = set(multiprocessing.active_children())
        started = self._workers and loader.persistent_workers
        method = (loader.multiprocessing_context or multiprocessing).get_start_method()
        with nullcontext() if started else _interrupts_deferred(method):
            batches = iter(loader)
        # Persistent workers of the first epoch serve the next ones too: new workers start once.
        self._workers |= {p.pid: p for p in multiprocessing.active_children() if p not in others and p.pid is not None}
        _watchdogs.add(self)
        _install_child_signal_handler()
        return batches

    def _call_loader(self, call: Callable[[], Result]) -> Result:
        """Calls the loader; raises the worker failure if it explains the loader's error."""
        try:
            return call()
        except WorkerFailedError:
            raise
        except (RuntimeError, OSError, EOFError):  # OSError, EOFError: a truncated message
            failure = self.failure()
            if failure is None:
                raise
            raise failure from None

    def failure(self, wait_s: float = 1.0, count_clean_exits: bool = True) -> WorkerFailedError | None:
        """Returns the error for a dead worker and kills the others, as no batch can follow; None if all are alive.

        Args:
            wait_s: seconds to wait for a worker to die, as an error may arrive before the exit.
            count_clean_exits: whether a worker that exited with status 0 counts, which is wrong while batches are due.
        """
        if self._failure is not None:
            return self._failure  # the others were killed, and are not the cause
        deadline = time.monotonic() + wait_s
        while not (dead := [pid for pid, worker in self._workers.items() if _is_dead(worker, count_clean_exits)]):
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.02)
        heartbeats = self._heartbeats.read()
        rows_by_pid = {int(pid): (number, int(row)) for number, (pid, row, _) in enumerate(heartbeats) if pid}
        dead.sort(key=lambda pid: (pid not in self._stuck, rows_by_pid.get(pid, (0, IDLE))[1] == IDLE))
        self._failure = self._describe_failure(dead[0], *rows_by_pid.get(dead[0], (None, IDLE)))
        for worker in self._workers.values():
            worker.kill()  # a stopped process does not react to SIGTERM
        return self._failure

    @property
    def has_failed(self) -> bool:
        """Whether a worker has failed."""
        return self._failure is not None

    @property
    def raises_anywhere(self) -> bool:
        """Whether a failure may be raised at this moment, wherever the training process is."""
        return not self._raises_while_awaited or self._awaited_batch > 0

    def _describe_failure(self, pid: int, number: int | None, row: int) -> WorkerFailedError:
        name = f"DataLoader worker {'' if number is None else f'{number} '}(process {pid})"
        reason = self._stuck.get(pid) or f"was lost: {_cause(self._workers[pid].exitcode)}"
        is_stuck = pid in self._stuck
        if row == IDLE:
            message = (
                f"{name} {reason}; it was reading no video; if this comes again, lower num_workers, prefetch_factor or "
                "batch_size, or see the log of the system"
            )
            return WorkerFailedError(message, None, reason, is_stuck)
        message = f"{name} {reason}; it was reading {self._describe(row)}; {self._advice(row)}"
        return WorkerFailedError(message, row, reason, is_stuck)

    def _kill_stuck_workers(self, finished: threading.Event) -> None:
        """Kills workers without progress. Only time in which this thread runs counts, as a run may be suspended."""
        interval = min(1.0, self._timeout_s / 10)
        previous, previous_batch = self._heartbeats.read(), self._awaited_batch
        idle_s, waited_s, last_time = np.zeros(len(previous)), 0.0, time.monotonic()
        while not finished.wait(interval) and not self.has_failed:
            elapsed_s, last_time = min(time.monotonic() - last_time, 2 * interval), time.monotonic()
            current, current_batch = self._heartbeats.read(), self._awaited_batch
            idle_s = np.where((current == previous).all(axis=1), idle_s + elapsed_s, 0.0)
            waited_s = waited_s + elapsed_s if current_batch == previous_batch != 0 else 0.0
            previous, previous_batch = current, current_batch
            is_stuck = (idle_s > self._timeout_s) & (current[:, ROW] != IDLE)
            reason = f"was stuck for {self._timeout_s:g} s (worker_timeout_s) and was killed"
            if not is_stuck.any() and waited_s > self._timeout_s and (idle_s > self._timeout_s).all():
                is_stuck = current[:, PID] > 0  # all are idle, and the batch does not arrive
                reason = f"gave no batch for {self._timeout_s:g} s (worker_timeout_s) and was killed"
            pids = current[is_stuck, PID].tolist()
            if waited_s > self._timeout_s and not pids and not current[:, PID].any():
                pids = list(self._workers)  # workers that never started
                reason = f"did not start within {self._timeout_s:g} s (worker_timeout_s) and was killed"
            for pid in pids:
                if not _has_ended(pid):  # one that crashed may not have been noticed yet
                    self._stuck.setdefault(pid, reason)
                if pid in self._workers:
                    self._workers[pid].kill()


@contextmanager
def _interrupts_deferred(start_method: str) -> Iterator[None]:
    """Context that defers Ctrl-C to its end, and blocks it in processes started within.

    A worker takes seconds to start, and until our code runs in it nothing else protects it from the signal.
    """
    if start_method != "fork":
        # Starting the resource tracker within the block, with the first worker, would unblock the signal.
        resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _has_ended(pid: int) -> bool:
    """Whether a child process has ended; its exit status is left for others to collect."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # collected, or the child of a fork server
        return False


def _is_dead(worker: BaseProcess, count_clean_exits: bool) -> bool:
    return not worker.is_alive() and (count_clean_exits or worker.exitcode != 0)


def _cause(code: int | None) -> str:
    if code is None or code >= 0:
        return "it ended by itself" if code is None else f"it ended with status {code}"
    name = signal.Signals(-code).name
    return f"killed by {name}, {_HINTS[name]}" if name in _HINTS else f"killed by {name}"


def _install_child_signal_handler() -> None:
    """Wraps torch's handler of SIGCHLD, so that it raises our error, which names the worker, instead of torch's."""
    torch_handler = signal.getsignal(signal.SIGCHLD)
    if (
        threading.current_thread() is not threading.main_thread()
        or not callable(torch_handler)
        or getattr(torch_handler, "reports_worker_failure", False)
    ):
        return

    def handler(number: int, frame: Any) -> None:
        try:
            torch_handler(number, frame)
        except RuntimeError:
            deadline = time.monotonic() + 1.0
            while time.monotonic() < deadline:
                if any(_report_failure(watchdog) for watchdog in list(_watchdogs)):
                    return
                if any(watchdog.has_failed for watchdog in list(_watchdogs)):
                    return  # already reported; these workers were killed by the watchdog
                time.sleep(0.02)
            raise

    handler.reports_worker_failure = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGCHLD, handler)


def _report_failure(watchdog: WorkerWatchdog) -> bool:
    """Raises a failure that has not been reported yet, or returns whether it will be raised at the next batch."""
    failure = None if watchdog.has_failed else watchdog.failure(0.0, count_clean_exits=False)
    if failure is not None and watchdog.raises_anywhere:
        raise failure from None
    return failure is not None
