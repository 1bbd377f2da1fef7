"""Heartbeat: each rank reports its progress to the driver every second, and receives the driver's requests.

A thread sends the heartbeats; the training thread only counts: `sender.enter_phase("...")` adds one to the number of
phases and keeps the name of the phase. All ranks enter the same phases in the same order, so if ranks wait for each
other, they wait for the rank with the lowest count.
"""

import faulthandler
import os
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ray  # its import makes the psutil that it brings importable

from jobs.training.sigterm_handler import SigtermHandler, installed_sigterm_handler

# isort: split
import psutil

HEARTBEAT_INTERVAL_S = 1.0
STARTING = "starting"
ENDED = "ended"
_MAX_STACK_FRAMES = 40  # frames of a stack that are reported, the innermost


class RankHeartbeat(NamedTuple):
    """The state of a rank that a heartbeat reports."""

    group: str  # id of the worker group, the same for all its ranks
    rank: int
    world_size: int
    pid: int
    start_time: float  # of the process, seconds since the epoch
    node_id: str  # Ray's id of the node
    num_phases: int  # number of phases entered since the start
    phase: str  # the name of the newest phase
    has_trained: bool  # whether a training step has been done
    stack: str  # frames of the training thread; empty unless requested


class DriverRequest(NamedTuple):
    """A request of the driver to all ranks of a group."""

    leave_reason: str = ""  # reason to save a checkpoint and leave; empty: continue
    include_stack: bool = False  # whether heartbeats include the stack of the training thread


class HeartbeatBoard:
    """Actor between ranks and driver: keeps the last heartbeat of each rank of the newest group, and its request."""

    def __init__(self) -> None:
        self._group = ""
        self._past_groups: set[str] = set()
        self._heartbeats: dict[int, tuple[RankHeartbeat, float]] = {}
        self._request = DriverRequest()
        self._hang_reason = ""

    def record(self, heartbeat: RankHeartbeat) -> DriverRequest:
        """Store the heartbeat of a rank, and return the driver's request; called by the ranks."""
        if heartbeat.group in self._past_groups:
            return DriverRequest()
        if heartbeat.group != self._group:
            self._past_groups.add(self._group)
            self._group, self._heartbeats, self._request = heartbeat.group, {}, DriverRequest()
        self._heartbeats[heartbeat.rank] = (heartbeat, time.monotonic())
        return self._request

    def heartbeats(self) -> list[tuple[RankHeartbeat, float]]:
        """The last heartbeat of each rank of the newest group in the order of ranks, and its age in seconds."""
        now = time.monotonic()
        return [(heartbeat, now - received) for _, (heartbeat, received) in sorted(self._heartbeats.items())]

    def close_group(self) -> None:
        """Remove the heartbeats of the newest group, which has ended; later ones from it are ignored."""
        self._past_groups.add(self._group)
        self._group, self._heartbeats, self._hang_reason = "", {}, ""

    def set_hang_reason(self, reason: str) -> None:
        """Set the sentence on the hang for which the newest group is being ended."""
        self._hang_reason = reason

    def hang_reason(self) -> str:
        """The sentence on the hang for which the newest group was ended; empty if it was not."""
        return self._hang_reason

    def set_request(self, group: str, request: DriverRequest) -> None:
        """Set the request to a group; ignored unless it is the newest group."""
        if group == self._group:
            self._request = request


@dataclass
class HeartbeatSender:
    """Sends the heartbeats of this process, one of the ranks, and receives the driver's requests.

    Args:
        rank: The rank of this process.
        world_size: The number of ranks.
        group: The id of the worker group, the same on all its ranks.
        board: Handle of the `HeartbeatBoard`; None: no heartbeats are sent.
        hang_timeout_s: Seconds without a heartbeat, as when native code keeps Python from running, after which
            faulthandler writes the stacks to stderr; 0: never.

    Attributes:
        num_phases: The number of phases entered since the start.
        phase: The name of the newest phase.
        has_trained: Whether a training step has been done.
        leave_reason: The reason to save a checkpoint and leave; empty: continue.
    """

    rank: int
    world_size: int
    group: str
    board: Any = None
    hang_timeout_s: float = 0.0
    num_phases: int = 0
    phase: str = STARTING
    has_trained: bool = False
    leave_reason: str = ""
    _training_thread: int = field(default_factory=threading.get_ident)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _sigterm: SigtermHandler | None = field(default_factory=installed_sigterm_handler)

    def enter_phase(self, name: str) -> None:
        """Count a phase that the training thread enters, and keep its name."""
        self.num_phases += 1
        self.phase = name

    def start(self) -> None:
        """Start the thread that sends a heartbeat every HEARTBEAT_INTERVAL_S seconds."""
        if self.board is not None:
            threading.Thread(target=self._send_heartbeats, daemon=True, name="heartbeat").start()

    def stop(self) -> None:
        """Send a last heartbeat with the phase ENDED, and end the thread."""
        self.enter_phase(ENDED)
        self._stopped.set()

    def must_leave(self) -> bool:
        """Whether this process received SIGTERM, or the driver requests that all ranks save a checkpoint and leave."""
        if self._sigterm is not None and self._sigterm.is_signaled and not self.leave_reason:
            self.leave_reason = f"rank {self.rank} received SIGTERM"
        return bool(self.leave_reason)

    def _send_heartbeats(self) -> None:
        node_id, start_time, stack = ray.get_runtime_context().get_node_id(), psutil.Process().create_time(), ""
        is_last = False
        while not is_last:
            is_last = self._stopped.wait(HEARTBEAT_INTERVAL_S)
            if self.hang_timeout_s and not is_last:
                faulthandler.dump_traceback_later(self.hang_timeout_s)
            heartbeat = RankHeartbeat(
                *(self.group, self.rank, self.world_size, os.getpid(), start_time, node_id),
                *(self.num_phases, self.phase, self.has_trained, stack),
            )
            try:
                request: DriverRequest = ray.get(self.board.record.remote(heartbeat), timeout=10 * HEARTBEAT_INTERVAL_S)
            except Exception:  # the driver or its node is gone, or slow: training does not depend on it
                continue
            self.leave_reason = self.leave_reason or request.leave_reason
            stack = format_stack(self._training_thread) if request.include_stack else ""
        faulthandler.cancel_dump_traceback_later()


def gather_leave_reasons(reason: str, world_size: int) -> str:
    """Gather the reasons why the ranks leave; a collective.

    Args:
        reason: The reason of this rank; empty if it has none.
        world_size: The number of ranks.

    Returns:
        Each distinct reason once, joined by semicolons; the same on all ranks.
    """
    from torch import distributed  # here: the driver imports this module too, and has no use for it

    reasons = [reason] * world_size
    if world_size > 1:
        distributed.all_gather_object(reasons, reason)
    return "; ".join(dict.fromkeys(filter(None, reasons)))


def format_stack(thread_id: int) -> str:
    """The formatted stack of a thread, the innermost frame last; empty if the thread has ended."""
    frame = sys._current_frames().get(thread_id)
    return "".join(traceback.format_stack(frame)[-_MAX_STACK_FRAMES:]) if frame is not None else ""
