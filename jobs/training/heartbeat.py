"""Heartbeat: each rank reports its progress to the driver every second, and receives the driver's requests.

A thread sends the heartbeats; the training thread only counts: `sender.at("...")` adds one to the number of places
passed and keeps the name of the place. All ranks pass the same places in the same order, so if ranks wait for each
other, they wait for the rank with the lowest count.
"""

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ray  # its import makes the psutil that it brings importable

# isort: split
import psutil

BEAT_S = 1.0
STARTING = "starting"
ENDED = "ended"
_DEEPEST = 40  # frames of a stack that are reported, the innermost


class RankHeartbeat(NamedTuple):
    """The state of a rank that a heartbeat reports."""

    group: str  # id of the worker group, the same for all its ranks
    rank: int
    of: int  # the number of ranks
    pid: int
    started: float  # start time of the process, seconds since the epoch
    node: str  # Ray's id of the node
    passed: int  # number of places passed since the start
    place: str
    trains: bool  # whether a training step has been done
    stack: str  # frames of the training thread; empty unless requested


class DriverRequest(NamedTuple):
    """A request of the driver to all ranks of a group."""

    leave: str = ""  # reason to save a checkpoint and leave; empty: go on
    stacks: bool = False  # whether to report the stack of the training thread


class HeartbeatBoard:
    """Actor between ranks and driver: keeps the last heartbeat of each rank of the newest group, and its request."""

    def __init__(self) -> None:
        self._group = ""
        self._past: set[str] = set()
        self._beats: dict[int, tuple[RankHeartbeat, float]] = {}
        self._asked = DriverRequest()
        self._verdict = ""

    def beat(self, beat: RankHeartbeat) -> DriverRequest:
        """Store the heartbeat of a rank, and return the driver's request; called by the ranks."""
        if beat.group in self._past:
            return DriverRequest()
        if beat.group != self._group:
            self._past.add(self._group)
            self._group, self._beats, self._asked = beat.group, {}, DriverRequest()
        self._beats[beat.rank] = (beat, time.monotonic())
        return self._asked

    def look(self) -> list[tuple[RankHeartbeat, float]]:
        """The last heartbeat of each rank of the newest group in the order of ranks, and its age in seconds."""
        now = time.monotonic()
        return [(beat, now - came) for _, (beat, came) in sorted(self._beats.items())]

    def forget(self) -> None:
        """Forget the newest group, which has ended; later heartbeats from it are ignored."""
        self._past.add(self._group)
        self._group, self._beats, self._verdict = "", {}, ""

    def set_verdict(self, reason: str) -> None:
        """Set the reason why the newest group is being ended."""
        self._verdict = reason

    def verdict(self) -> str:
        """The reason why the newest group was ended; empty if it was not."""
        return self._verdict

    def ask(self, group: str, asked: DriverRequest) -> None:
        """Set the request to a group; ignored unless it is the newest group."""
        if group == self._group:
            self._asked = asked


@dataclass
class HeartbeatSender:
    """Sends the heartbeats of this process, one of the ranks, and receives the driver's requests.

    Args:
        rank: The rank of this process.
        of: The number of ranks.
        group: The id of the worker group, the same on all its ranks.
        board: Handle of the `HeartbeatBoard`; None: no heartbeats are sent.
        hang_timeout_s: Seconds without a heartbeat, as when native code keeps Python from running, after which
            faulthandler writes the stacks to stderr; 0: never.
    """

    rank: int
    of: int
    group: str
    board: Any = None
    hang_timeout_s: float = 0.0
    passed: int = 0
    place: str = STARTING
    trains: bool = False
    leave: str = ""
    _thread: int = field(default_factory=threading.get_ident)
    _over: threading.Event = field(default_factory=threading.Event)

    def at(self, place: str) -> None:
        """Count a place that the training thread passes, and keep its name."""
        self.passed += 1
        self.place = place

    def start(self) -> None:
        """Start the thread that sends a heartbeat every BEAT_S seconds."""
        if self.board is not None:
            threading.Thread(target=self._beat_on, daemon=True, name="heartbeat").start()

    def stop(self) -> None:
        """Send a last heartbeat with the place ENDED, and end the thread."""
        self.at(ENDED)
        self._over.set()

    def wants_to_leave(self) -> bool:
        """Whether this process received SIGTERM, or the driver asks all ranks to save a checkpoint and leave."""
        if terminated.is_set() and not self.leave:
            self.leave = f"rank {self.rank} was told to end (SIGTERM)"
        return bool(self.leave)

    def _beat_on(self) -> None:
        node, started, stack = ray.get_runtime_context().get_node_id(), psutil.Process().create_time(), ""
        over = False
        while not over:
            over = self._over.wait(BEAT_S)
            if self.hang_timeout_s and not over:
                faulthandler.dump_traceback_later(self.hang_timeout_s)
            beat = RankHeartbeat(
                *(self.group, self.rank, self.of, os.getpid(), started, node),
                *(self.passed, self.place, self.trains, stack),
            )
            try:
                asked: DriverRequest = ray.get(self.board.beat.remote(beat), timeout=10 * BEAT_S)
            except Exception:  # the driver or its node is gone, or slow: training does not depend on it
                continue
            self.leave = self.leave or asked.leave
            stack = _stack_of(self._thread) if asked.stacks else ""
        faulthandler.cancel_dump_traceback_later()


def all_stop_reasons(mine: str, ranks: int) -> str:
    """Gather the reasons why the ranks leave; a collective.

    Args:
        mine: The reason that this rank knows; empty if it knows none.
        ranks: The number of ranks.

    Returns:
        Each distinct reason once, joined by semicolons; the same on all ranks.
    """
    from torch import distributed  # here: the driver imports this module too, and has no use for it

    told = [mine] * ranks
    if ranks > 1:
        distributed.all_gather_object(told, mine)
    return "; ".join(dict.fromkeys(filter(None, told)))


terminated = threading.Event()  # set by SIGTERM; a global, because signal handlers are global to a process


def take_sigterm() -> None:
    """Install a SIGTERM handler: the first signal makes the ranks leave after a step, the second ends the process.

    Call it in the main thread, the only one where Python can install handlers; training runs in another thread.
    """
    before = signal.getsignal(signal.SIGTERM)

    def note(number: int, frame: Any) -> None:
        if not terminated.is_set():
            terminated.set()
        elif callable(before):
            before(number, frame)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, note)


def _stack_of(thread: int) -> str:
    """The formatted stack of a thread, the innermost frame last; empty if the thread has ended."""
    frame = sys._current_frames().get(thread)
    return "".join(traceback.format_stack(frame)[-_DEEPEST:]) if frame is not None else ""
