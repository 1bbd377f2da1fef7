"""What a rank is doing, told to the driver every second by a thread of its own; and what the driver asks of it.

The training thread only counts: `pulse.at("...")` adds one and keeps a word for the place. All ranks pass the same
places in the same order, so where they wait for each other the one that has counted least is the one they wait for.
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
_DEEPEST = 40  # frames of a stack that are told


class RankHeartbeat(NamedTuple):
    """What a rank tells."""

    group: str  # the attempt, the same for all its ranks
    rank: int
    of: int
    pid: int
    started: float  # of the process, seconds since the epoch
    node: str  # Ray's id of the node
    passed: int  # places, in all
    place: str
    trains: bool  # whether a training step has been done
    stack: str  # where it was asked for


class DriverRequest(NamedTuple):
    """What the driver asks of a group of ranks."""

    leave: str = ""  # why to save and leave; empty: stay
    stacks: bool = False  # tell where the training thread is


class HeartbeatBoard:
    """The actor in between: keeps the last beat of each rank of the newest group, and what is asked of that group."""

    def __init__(self) -> None:
        self._group = ""
        self._past: set[str] = set()
        self._beats: dict[int, tuple[RankHeartbeat, float]] = {}
        self._asked = DriverRequest()
        self._verdict = ""

    def beat(self, beat: RankHeartbeat) -> DriverRequest:
        """Called by a rank."""
        if beat.group in self._past:
            return DriverRequest()
        if beat.group != self._group:
            self._past.add(self._group)
            self._group, self._beats, self._asked = beat.group, {}, DriverRequest()
        self._beats[beat.rank] = (beat, time.monotonic())
        return self._asked

    def look(self) -> list[tuple[RankHeartbeat, float]]:
        """The last beat of each rank of the newest group, and the seconds since it came."""
        now = time.monotonic()
        return [(beat, now - came) for _, (beat, came) in sorted(self._beats.items())]

    def forget(self) -> None:
        """The newest group is no more."""
        self._past.add(self._group)
        self._group, self._beats, self._verdict = "", {}, ""

    def set_verdict(self, reason: str) -> None:
        """Why the newest group is being ended."""
        self._verdict = reason

    def verdict(self) -> str:
        """Why it was, if it was."""
        return self._verdict

    def ask(self, group: str, asked: DriverRequest) -> None:
        """Ask something of a group, if it is still the newest."""
        if group == self._group:
            self._asked = asked


@dataclass
class HeartbeatSender:
    """Of this process, one of the ranks.

    Args:
        rank: Of this process.
        of: How many ranks there are.
        group: The attempt.
        board: Handle of the `HeartbeatBoard`; None where nobody looks.
        hang_timeout_s: After so many seconds without a beat, as when native code keeps Python from running,
            faulthandler writes the stacks to stderr; 0 for never.
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
        """The training thread passes a place."""
        self.passed += 1
        self.place = place

    def start(self) -> None:
        """Beat from now on."""
        if self.board is not None:
            threading.Thread(target=self._beat_on, daemon=True, name="pulse").start()

    def stop(self) -> None:
        """Beat once more, to say so."""
        self.at(ENDED)
        self._over.set()

    def wants_to_leave(self) -> bool:
        """Whether this process was told to end (SIGTERM), or the driver asks all ranks to save and leave."""
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
    """A collective: why the ranks leave, as those say that know.

    Args:
        mine: What this rank knows; empty: nothing.
        ranks: How many there are.

    Returns:
        The same on all: each reason once.
    """
    from torch import distributed  # here: the driver imports this module too, and has no use for it

    told = [mine] * ranks
    if ranks > 1:
        distributed.all_gather_object(told, mine)
    return "; ".join(dict.fromkeys(filter(None, told)))


terminated = threading.Event()  # SIGTERM came to this process; signal handlers are a process's own


def take_sigterm() -> None:
    """From now on SIGTERM is noted, and heeded at the end of a step; a second one ends the process.

    Called in the main thread, where alone Python lets signals be taken; training runs in another one.
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
    """The frames of a thread, the innermost last."""
    frame = sys._current_frames().get(thread)
    return "".join(traceback.format_stack(frame)[-_DEEPEST:]) if frame is not None else ""
