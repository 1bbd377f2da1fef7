"""Pool of child processes that are killed when a call hangs."""

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar

from pipeline.processes.killable_process import KillableProcess, ProcessUnavailable
from pipeline.processes.machine import num_processors

Result = TypeVar("Result")


class KillablePool:
    """Pool of `KillableProcess`es, each driven by a thread of this process and started when there is work for it.

    Args:
        processes: Number of child processes, at least 1; None: one for each processor.
        timeout: Time limit of one call of `map`, in seconds, above 0.
        by_progress: The functions of `map` report their progress, and `timeout` is the time without progress
            (`KillableProcess.call`).
    """

    def __init__(self, processes: int | None, timeout: float, by_progress: bool = False):
        if processes is not None and processes < 1:
            raise ValueError(f"processes={processes}: must be at least 1")
        if not timeout > 0:
            raise ValueError(f"timeout={timeout}: must be above 0 seconds")
        self._timeout = timeout
        self._by_progress = by_progress
        self._children = [KillableProcess() for _ in range(processes or num_processors())]
        self._free: queue.SimpleQueue[KillableProcess] = queue.SimpleQueue()
        for child in self._children:
            self._free.put(child)
        self._threads = ThreadPoolExecutor(len(self._children))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for child in self._children:
            child.stop()
        self._threads.shutdown(wait=True)
        for child in self._children:
            child.close()

    def submit(self, work: Callable[[KillableProcess], Result]) -> Future[Result]:
        """Run `work` in a thread of this process as soon as a child is free.

        Args:
            work: Function that is called with the child, and has exclusive use of it until it returns.
        """
        return self._threads.submit(self._run_with_child, work)

    def map(
        self, function: Callable[..., Result], jobs: Sequence[tuple[Any, ...]], advance: Callable[[], None]
    ) -> list[Result | Exception]:
        """Call `function(*job)` for every job, each in a child.

        Args:
            function: A function of an importable module.
            jobs: The arguments of each call; arguments and results are pickled.
            advance: Called after every job, in this thread.

        Returns:
            For each job, in order, the result or the exception of the call, including `ProcessHung` and `ProcessDied`.

        Raises:
            ValueError: No child can be started.
        """
        futures = [self.submit(partial(self._call, function, job)) for job in jobs]
        for future in as_completed(futures):
            failure = future.exception()
            if isinstance(failure, ProcessUnavailable | ImportError):
                raise ValueError(f"decoding processes do not run: {failure}") from None
            if failure is not None and not isinstance(failure, Exception):
                raise failure
            advance()
        failures = [future.exception() for future in futures]
        return [
            failure if isinstance(failure, Exception) else future.result()
            for future, failure in zip(futures, failures, strict=True)
        ]

    def _call(self, function: Callable[..., Result], job: tuple[Any, ...], child: KillableProcess) -> Result:
        return child.call(function, *job, timeout=self._timeout, by_progress=self._by_progress)

    def _run_with_child(self, work: Callable[[KillableProcess], Result]) -> Result:
        child = self._free.get()
        try:
            return work(child)
        finally:
            self._free.put(child)
