"""Watchdog: a thread of the driver that ends an attempt in which no rank makes progress.

It names the rank that is to blame: the one that the others wait for, not those that wait. It also asks the ranks to
save a checkpoint and leave when the job is stopped, when one of their nodes is drained, and when an elastic run can
grow.
"""

import contextlib
import os
import re
import sys
import threading
import time
from types import TracebackType
from typing import Any, Self

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.ray_internals import draining_nodes
from jobs.spec.job_spec import JobSpec
from jobs.training.cluster_capacity import free_workers, max_workers
from jobs.training.heartbeat import ENDED, DriverRequest, RankHeartbeat

POLL_S = 1.0
STACK_WAIT_S = 5.0
_SILENT_S = 15.0  # age of the last heartbeat from which a rank counts as not responding
_KILL_S = 60.0


class Watchdog:
    """Context manager that monitors the ranks of a job.

    Args:
        spec: The spec of the job.
        board: Handle of the `jobs.training.heartbeat.HeartbeatBoard` that receives the ranks' heartbeats.
    """

    def __init__(self, spec: JobSpec, board: Any) -> None:
        self._spec = spec
        self._board = board
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True, name="watchdog")
        self._stopping = threading.Event()
        self._may_grow_at = float("inf")
        self._seen: tuple[str, tuple[int, ...]] = ("", ())
        self._moved = time.monotonic()
        self._ended: set[str] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()

    @property
    def stopping(self) -> bool:
        """Whether the job is being stopped."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Ask the ranks to save a checkpoint and leave, and end the job; safe to call in signal handlers."""
        self._stopping.set()

    def trains(self) -> bool:
        """Whether some rank has trained a step, so that there is progress to save."""
        return any(beat.trains for beat, _ in self._beats())

    def begin(self) -> None:
        """Start an attempt: forget the heartbeats of the last one."""
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self._board.forget.remote(), timeout=30)
        self._may_grow_at = time.monotonic() + self._spec.grow_check_s

    def _look_on(self) -> None:
        while not self._over.wait(POLL_S):
            try:
                self._look()
            except Exception as error:  # the cluster is slow or in trouble: tried again later
                print(f"note: the job's watch could not look at the ranks: {error!r:.200}", file=sys.stderr, flush=True)

    def _beats(self) -> list[tuple[RankHeartbeat, float]]:
        beats: list[tuple[RankHeartbeat, float]] = ray.get(self._board.look.remote(), timeout=30)
        return beats

    def _look(self) -> None:
        beats = self._beats()
        if not beats or any(beat.place == ENDED for beat, _ in beats):
            return
        group = beats[0][0].group
        seen = (group, tuple(beat.passed for beat, _ in beats))
        if seen != self._seen:
            self._seen, self._moved = seen, time.monotonic()
        limit = self._spec.hang_timeout_s
        if limit and group not in self._ended and time.monotonic() - self._moved > limit:
            self._ended.add(group)
            self._end_hung(group)
        elif reason := self._why_to_leave([beat for beat, _ in beats]):
            self._ask(group, DriverRequest(leave=reason))

    def _why_to_leave(self, beats: list[RankHeartbeat]) -> str:
        if self.stopping:
            return "the job was stopped"
        leaving = draining_nodes()
        ranks = [str(beat.rank) for beat in beats if beat.node in leaving]
        if ranks:
            return f"the node of rank {', '.join(ranks)} is going away"
        now, of = time.monotonic(), beats[0].of
        if self._spec.min_workers is None or of >= self._spec.num_workers or now < self._may_grow_at:
            return ""
        if not all(beat.trains for beat in beats):
            return ""
        if max_workers(self._spec) > of and free_workers(self._spec) > 0:
            return "there is room for more workers"
        self._may_grow_at = now + self._spec.grow_check_s
        return ""

    def _ask(self, group: str, asked: DriverRequest) -> None:
        ray.get(self._board.ask.remote(group, asked), timeout=30)

    def _end_hung(self, group: str) -> None:
        self._ask(group, DriverRequest(stacks=True))
        deadline = time.monotonic() + STACK_WAIT_S
        blamed = lagging_ranks(self._beats())
        while time.monotonic() < deadline and not all(beat.stack for beat, _ in blamed):
            time.sleep(POLL_S / 2)
            blamed = lagging_ranks(self._beats())
        reason = describe_hang(blamed, self._spec.hang_timeout_s)
        print(f"error: {reason}; ending this attempt", file=sys.stderr, flush=True)
        for beat, _ in blamed:
            if beat.stack:
                print(f"rank {beat.rank} was at:\n{beat.stack}", file=sys.stderr, flush=True)
        ray.get(self._board.set_verdict.remote(reason), timeout=30)
        for beat, _ in blamed:
            _kill(beat)


def lagging_ranks(beats: list[tuple[RankHeartbeat, float]]) -> list[tuple[RankHeartbeat, float]]:
    """The ranks that the others wait for: those with the lowest count; among them, those not responding, if any."""
    fewest = min(beat.passed for beat, _ in beats)
    behind = [each for each in beats if each[0].passed == fewest]
    silent = [each for each in behind if each[1] > _SILENT_S]
    return silent or behind


def describe_hang(blamed: list[tuple[RankHeartbeat, float]], limit_s: float) -> str:
    """Describe which ranks hung, and where.

    Args:
        blamed: The last heartbeat of each of these ranks, and its age in seconds.
        limit_s: The time without progress, in seconds.
    """
    parts = []
    for beat, age in blamed:
        where = _innermost(beat.stack)
        how = "its process does not answer: it is stopped, or native code keeps Python from running"
        known = f"in {where}" if where else how if age > _SILENT_S else "its stack is not known"
        parts.append(f"rank {beat.rank} of {beat.of} (process {beat.pid}, {beat.place}; {known})")
    return f"hung: no progress for {limit_s:g} s (hang_timeout_s) of {', '.join(parts)}"


def _innermost(stack: str) -> str:
    """`file, line N, function` of the innermost frame outside installed libraries, else of the innermost frame."""
    frames = [line.strip() for line in stack.splitlines() if line.strip().startswith("File ")]
    own = [frame for frame in frames if "site-packages" not in frame and "/lib/python" not in frame]
    found = (own or frames)[-1:]
    if not found:
        return ""
    place = found[0].removeprefix("File ").replace('"', "").replace(" in ", " ")
    return re.sub(r".*/_ray_pkg_\w+/", "", place)  # the upload's folder on that node


def _kill(beat: RankHeartbeat) -> None:
    """Kill the process of a rank from a Ray task on its node; Ray Train then notices that the worker died."""
    there = NodeAffinitySchedulingStrategy(beat.node, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(_kill_here).options(scheduling_strategy=there)
    with contextlib.suppress(ray.exceptions.RayError, TimeoutError):  # the node is gone, the rank with it
        ray.get(task.remote(beat.pid, beat.started), timeout=_KILL_S)


def _kill_here(pid: int, started: float) -> None:
    import psutil

    with contextlib.suppress(psutil.Error):
        if abs(psutil.Process(pid).create_time() - started) < 1.0:  # not a later process with the same id
            os.kill(pid, 9)
