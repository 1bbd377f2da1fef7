"""The time of a stream: `StreamClock` repairs timestamps, `Backlog` tells whether the reader has fallen behind."""

import math

MAX_GAP_S = 10.0  # a longer step between two frames is a jump of the clock, not a pause
_MAX_DRIFT = 2e-4  # seconds a second that two clocks may drift apart; quartz stays below 1e-4
_LONG_WAIT_S = 0.25  # whoever waited so long for data had read all there was
_WAIT_S = 0.02  # the same while packets are discarded, which takes far less


class StreamClock:
    """Turns the timestamps of one connection into seconds that ascend from 0.

    A timestamp that is missing, repeated, earlier than the one before (also where a counter wraps) or more than 10
    seconds later is replaced by the time at which the frame was due, and those after it are shifted with it.

    Args:
        frame_s: nominal duration of a frame, in seconds.

    Attributes:
        jumps: number of frames whose timestamps were replaced.
    """

    def __init__(self, frame_s: float) -> None:
        self._frame_s = frame_s
        self._shift: float | None = None  # seconds from a timestamp to the time of the stream
        self._last: float | None = None
        self._skips = False
        self.jumps = 0

    def time_of(self, timestamp: float | None) -> float:
        """The time of the next frame in seconds.

        Args:
            timestamp: its presentation timestamp in seconds; None if it has none.
        """
        due = 0.0 if self._last is None else self._last + self._frame_s
        if timestamp is None:
            self.jumps += 1
            self._last = due
            return due
        if self._shift is None:
            self._shift = due - timestamp
        time = timestamp + self._shift
        longest_s = math.inf if self._skips else MAX_GAP_S
        self._skips = False
        if self._last is not None and not 0 < time - self._last <= longest_s:
            self.jumps += 1
            self._shift, time = due - timestamp, due
        self._last = time
        return time

    def skip(self) -> None:
        """Takes the next step between two timestamps as it is, however long: frames were left out."""
        self._skips = True

    def estimate(self, timestamp: float) -> float | None:
        """The time of a packet that is not decoded yet, if the clock goes on evenly; None before the first frame."""
        return None if self._shift is None else timestamp + self._shift


class Backlog:
    """Tells whether packets wait to be decoded, from when they arrive and the times that they carry.

    Arrival minus stream time is constant while a stream is read as it comes, and grows while it is read too slowly. The
    smallest value is the reference; it may rise by as much as clocks drift apart, and is taken anew where the reader
    had to wait for data: then nothing was left to read.

    Args:
        limit_s: seconds behind from which on packets are to be discarded.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._reference: float | None = None
        self._last_arrival = 0.0
        self.is_behind = False

    def reset(self) -> None:
        """Forgets the reference: the clock of the stream has jumped."""
        self._reference, self.is_behind = None, False

    def observe(self, arrival: float, time: float, waited_s: float) -> bool:
        """Whether the reader is behind: from `limit_s` on, until it is back within a quarter of it.

        Args:
            arrival: monotonic time at which a packet was read, in seconds.
            time: its stream time, in seconds.
            waited_s: how long the reading took, in seconds.
        """
        delay = arrival - time
        if self._reference is None or waited_s > (_WAIT_S if self.is_behind else _LONG_WAIT_S):
            self._reference, self.is_behind = delay, False
        else:
            drifted = self._reference + _MAX_DRIFT * (arrival - self._last_arrival)
            self._reference = min(delay, drifted)
            limit_s = self._limit_s / 4 if self.is_behind else self._limit_s
            self.is_behind = delay - self._reference > limit_s
        self._last_arrival = arrival
        return self.is_behind
