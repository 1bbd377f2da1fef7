"""Watchdog: a thread of the driver that ends an attempt in which no rank makes progress.

It names the rank that hangs: the one that the others wait for, not those that wait. It also requests that the ranks
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
_STACK_TIMEOUT_S = 5.0
_UNRESPONSIVE_S = 15.0  # age of the last heartbeat from which a rank counts as not responding
_KILL_TIMEOUT_S = 60.0


class Watchdog:
    """Context manager that monitors the ranks of a job.

    Args:
        spec: The spec of the job.
        board: Handle of the `jobs.training.heartbeat.HeartbeatBoard` that receives the ranks' heartbeats.
    """

    def __init__(self, spec: JobSpec, board: Any) -> None:
        self._spec = spec
        self._board = board
        self._thread = threading.Thread(target=self._run, daemon=True, name="watchdog")
        self._closed = threading.Event()
        self._stopping = threading.Event()
        self._next_growth_check = float("inf")
        self._progress: tuple[str, tuple[int, ...]] = ("", ())  # the group, and the phase count of each rank
        self._progress_time = time.monotonic()
        self._hung_groups: set[str] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()

    @property
    def is_stopping(self) -> bool:
        """Whether the job is being stopped."""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Request that the ranks save a checkpoint and leave, and end the job; safe to call in signal handlers."""
        self._stopping.set()

    def has_trained(self) -> bool:
        """Whether some rank has trained a step, so that there is progress to save."""
        return any(heartbeat.has_trained for heartbeat, _ in self._heartbeats())

    def begin_attempt(self) -> None:
        """Start an attempt: remove the heartbeats of the last one."""
        with contextlib.suppress(ray.exceptions.RayError):
            ray.get(self._board.close_group.remote(), timeout=30)
        self._next_growth_check = time.monotonic() + self._spec.grow_check_s

    def _run(self) -> None:
        while not self._closed.wait(POLL_S):
            try:
                self._check_ranks()
            except Exception as error:  # the cluster is slow or in trouble: tried again later
                print(f"note: the watchdog cannot read the heartbeats: {error!r:.200}", file=sys.stderr, flush=True)

    def _heartbeats(self) -> list[tuple[RankHeartbeat, float]]:
        heartbeats: list[tuple[RankHeartbeat, float]] = ray.get(self._board.heartbeats.remote(), timeout=30)
        return heartbeats

    def _check_ranks(self) -> None:
        heartbeats = [heartbeat for heartbeat, _ in self._heartbeats()]
        if not heartbeats or any(heartbeat.phase == ENDED for heartbeat in heartbeats):
            return
        group = heartbeats[0].group
        progress = (group, tuple(heartbeat.num_phases for heartbeat in heartbeats))
        if progress != self._progress:
            self._progress, self._progress_time = progress, time.monotonic()
        limit_s = self._spec.hang_timeout_s
        if limit_s and group not in self._hung_groups and time.monotonic() - self._progress_time > limit_s:
            self._hung_groups.add(group)
            self._end_hung_group(group)
        elif reason := self._leave_reason(heartbeats):
            self._send_request(group, DriverRequest(leave_reason=reason))

    def _leave_reason(self, heartbeats: list[RankHeartbeat]) -> str:
        """The reason why the ranks are to save a checkpoint and leave now; empty if there is none."""
        if self.is_stopping:
            return "the job was stopped"
        draining = draining_nodes()
        ranks = [str(heartbeat.rank) for heartbeat in heartbeats if heartbeat.node_id in draining]
        if ranks:
            return f"the node of rank {', '.join(ranks)} is going away"
        now, world_size = time.monotonic(), heartbeats[0].world_size
        is_full = self._spec.min_workers is None or world_size >= self._spec.num_workers
        if is_full or now < self._next_growth_check or not all(heartbeat.has_trained for heartbeat in heartbeats):
            return ""
        if max_workers(self._spec) > world_size and free_workers(self._spec) > 0:
            return "the cluster has capacity for more workers"
        self._next_growth_check = now + self._spec.grow_check_s
        return ""

    def _send_request(self, group: str, request: DriverRequest) -> None:
        ray.get(self._board.set_request.remote(group, request), timeout=30)

    def _end_hung_group(self, group: str) -> None:
        self._send_request(group, DriverRequest(include_stack=True))
        deadline = time.monotonic() + _STACK_TIMEOUT_S
        hung = lagging_ranks(self._heartbeats())
        while time.monotonic() < deadline and not all(heartbeat.stack for heartbeat, _ in hung):
            time.sleep(POLL_S / 2)
            hung = lagging_ranks(self._heartbeats())
        reason = describe_hang(hung, self._spec.hang_timeout_s)
        print(f"error: {reason}; ending this attempt", file=sys.stderr, flush=True)
        for heartbeat, _ in hung:
            if heartbeat.stack:
                print(f"rank {heartbeat.rank} was at:\n{heartbeat.stack}", file=sys.stderr, flush=True)
        ray.get(self._board.set_hang_reason.remote(reason), timeout=30)
        for heartbeat, _ in hung:
            _kill_rank(heartbeat)


def lagging_ranks(heartbeats: list[tuple[RankHeartbeat, float]]) -> list[tuple[RankHeartbeat, float]]:
    """The ranks that the others wait for: those with the lowest count; among them, those not responding, if any.

    Args:
        heartbeats: The last heartbeat of each rank, and its age in seconds.
    """
    lowest = min(heartbeat.num_phases for heartbeat, _ in heartbeats)
    lagging = [(heartbeat, age_s) for heartbeat, age_s in heartbeats if heartbeat.num_phases == lowest]
    unresponsive = [(heartbeat, age_s) for heartbeat, age_s in lagging if age_s > _UNRESPONSIVE_S]
    return unresponsive or lagging


def describe_hang(hung: list[tuple[RankHeartbeat, float]], limit_s: float) -> str:
    """Describe which ranks hung, and in which line of code.

    Args:
        hung: The last heartbeat of each of these ranks, and its age in seconds.
        limit_s: The time without progress, in seconds.
    """
    parts = []
    for heartbeat, age_s in hung:
        if frame := _innermost_frame(heartbeat.stack):
            details = f"in {frame}"
        elif age_s > _UNRESPONSIVE_S:
            details = "its process does not answer: it is stopped, or native code keeps Python from running"
        else:
            details = "its stack is not known"
        parts.append(
            f"rank {heartbeat.rank} of {heartbeat.world_size} (process {heartbeat.pid}, {heartbeat.phase}; {details})"
        )
    return f"hung: no progress for {limit_s:g} s (hang_timeout_s) of {', '.join(parts)}"


def _innermost_frame(stack: str) -> str:
    """`file, line N, function` of the innermost frame outside installed libraries, else of the innermost frame."""
    frames = [line.strip() for line in stack.splitlines() if line.strip().startswith("File ")]
    own_frames = [frame for frame in frames if "site-packages" not in frame and "/lib/python" not in frame]
    innermost = (own_frames or frames)[-1:]
    if not innermost:
        return ""
    frame = innermost[0].removeprefix("File ").replace('"', "").replace(" in ", " ")
    return re.sub(r".*/_ray_pkg_\w+/", "", frame)  # the upload's folder on that node


def _kill_rank(heartbeat: RankHeartbeat) -> None:
    """Kill the process of a rank from a Ray task on its node; Ray Train then notices that the worker died."""
    on_node = NodeAffinitySchedulingStrategy(heartbeat.node_id, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(_kill_process).options(scheduling_strategy=on_node)
    with contextlib.suppress(ray.exceptions.RayError, TimeoutError):  # the node is gone, the rank with it
        ray.get(task.remote(heartbeat.pid, heartbeat.start_time), timeout=_KILL_TIMEOUT_S)


def _kill_process(pid: int, start_time: float) -> None:
    import psutil

    with contextlib.suppress(psutil.Error):
        if abs(psutil.Process(pid).create_time() - start_time) < 1.0:  # not a later process with the same id
            os.kill(pid, 9)
