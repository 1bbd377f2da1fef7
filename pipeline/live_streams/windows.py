"""Sliding windows over the frames of a stream."""

import math
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Window(NamedTuple):
    """Frames that are classified together.

    Attributes:
        frames: its frames, each uint8 (H, W, C).
        first: number of the first frame among all that were taken from the stream, over all connections.
        start_s: when the first frame is shown, in seconds from the stream's first frame.
        end_s: when the last frame ends.
        arrived: when the last frame arrived, in seconds since 1970 (UTC).
    """

    frames: list[Tensor]
    first: int
    start_s: float
    end_s: float
    arrived: float


class WindowBuilder:
    """Collects the frames of one connection into windows; memory holds the frames of one window.

    Window k begins with the frame nearest to k strides after the first frame, and has `num_frames` frames, which is its
    length in seconds where frames are evenly spaced.

    Args:
        num_frames: number of frames of a window.
        spacing_s: seconds from one frame to the next, where they are evenly spaced.
        stride_s: seconds from one window to the next.
        first: number of the next frame, over all connections.
        start_s: the connection's first frame in seconds from the stream's first frame.
    """

    def __init__(self, num_frames: int, spacing_s: float, stride_s: float, first: int = 0, start_s: float = 0) -> None:
        self._num_frames, self._spacing_s, self._stride_s = num_frames, spacing_s, stride_s
        self._start_s = start_s
        self._frames: deque[tuple[Tensor | None, float]] = deque(maxlen=num_frames)
        self._window_ends: deque[int] = deque()  # numbers of the last frames of unfinished windows, ascending
        self._next_start = 0.0
        self.next_number = first

    def add(self, load: Callable[[], Tensor], time: float, arrived: float) -> Window | None:
        """Takes the next frame; returns the window that it completes, if any.

        Args:
            load: returns its pixels, uint8 (H, W, C); not called for a frame that is in no window.
            time: its time in seconds from the first frame of the connection.
            arrived: when it arrived, in seconds since 1970.
        """
        if time >= self._next_start - self._spacing_s / 2:
            self._window_ends.append(self.next_number + self._num_frames - 1)
            passed = math.floor((time + self._spacing_s / 2) / self._stride_s + 1e-9)
            self._next_start = (passed + 1) * self._stride_s
        self._frames.append((load() if self._window_ends else None, time))
        self.next_number += 1
        if self._window_ends and self._window_ends[0] < self.next_number:
            self._window_ends.popleft()
            return self._window(arrived)
        return None

    def unfinished(self, arrived: float) -> Window | None:
        """The window that is being collected, as far as it goes, for a stream that ends before its first window."""
        return self._window(arrived) if self._window_ends else None

    def _window(self, arrived: float) -> Window:
        kept = [(pixels, time) for pixels, time in self._frames if pixels is not None]
        start_s, end_s = self._start_s + kept[0][1], self._start_s + kept[-1][1] + self._spacing_s
        return Window([pixels for pixels, _ in kept], self.next_number - len(kept), start_s, end_s, arrived)
