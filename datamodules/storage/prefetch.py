"""ReadAhead: threads that read the next videos while the first are decoded, bounded in bytes.

The caller announces the rows that it will request, in order, and then requests them. A video that no thread has begun
to read is read by the caller itself, so that it never waits for a queued read.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import NamedTuple

_IDLE_S = 10.0  # idle time after which a thread ends; the next batch starts new ones


class ByteRange(NamedTuple):
    """Location of a video: row in the index, shard, byte range and checksum."""

    row: int
    shard: str
    offset: int
    size: int
    sha256: str

    @property
    def place(self) -> tuple[str, int]:
        """Shard and offset, which identify it: a row may have several ranges."""
        return self.shard, self.offset


class ReadAhead:
    """Read-ahead buffer of one process; a forked process starts with an empty one.

    Args:
        read: Reads the bytes of one range, with retries; raises an error if it cannot be read.
        threads: Number of daemon threads, at least 1; started on demand.
        max_bytes: Bound on bytes being read or buffered, at least 1; a larger video is read alone.
    """

    def __init__(self, read: Callable[[ByteRange], bytes], threads: int, max_bytes: int):
        self._read = read
        self._num_threads = threads
        self._max_bytes = max_bytes
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._queue: deque[ByteRange] = deque()
        self._started: dict[tuple[str, int], tuple[ByteRange, Future[bytes]]] = {}
        self.held_bytes = 0  # bytes in `_started` or still being read
        self.peak_bytes = 0  # maximum of `held_bytes`

    def expect(self, ranges: Sequence[ByteRange]) -> None:
        """Announce the ranges that will be requested, in order; earlier announcements not repeated are dropped."""
        if self._process != os.getpid():
            self._reset()
        places = {byte_range.place for byte_range in ranges}
        with self._changed:
            for place in [place for place in self._started if place not in places]:
                self._drop(place)
            new_ranges = {one.place: one for one in ranges if one.place not in self._started}
            self._queue = deque(new_ranges.values())
            while len(self._threads) < min(self._num_threads, len(self._queue)):
                thread = threading.Thread(target=self._work, name="remote-reads", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()

    def take(self, byte_range: ByteRange) -> bytes:
        """Return the bytes of one range, announced or not; raises the error of its read."""
        data: bytes | None = None
        if self._process == os.getpid():
            with self._changed:
                started = self._started.get(byte_range.place)
                if started is None:  # not begun: read here, not by a thread
                    self._queue = deque(one for one in self._queue if one.place != byte_range.place)
            if started is not None:
                try:
                    data = started[1].result()
                except CancelledError:  # another thread announced other rows meanwhile
                    data = None
                finally:
                    with self._changed:
                        self._drop(byte_range.place)
                        self._changed.notify_all()
        return self._read(byte_range) if data is None else data

    def _drop(self, place: tuple[str, int]) -> None:
        byte_range, future = self._started.pop(place, (None, None))
        if byte_range is None or future is None or future.cancel():
            return  # dropped before, or still being read: the thread sees that it was cancelled
        self.held_bytes -= byte_range.size

    def _work(self) -> None:
        while True:
            with self._changed:
                while (byte_range := self._next_range()) is None:
                    if not self._changed.wait(_IDLE_S) and not self._queue:
                        self._threads.remove(threading.current_thread())
                        return
                future: Future[bytes] = Future()
                self._started[byte_range.place] = byte_range, future
                self.held_bytes += byte_range.size
                self.peak_bytes = max(self.peak_bytes, self.held_bytes)
            try:
                result: bytes | BaseException = self._read(byte_range)
            except BaseException as error:  # passed to the caller of `take`
                result = error
            with self._changed:
                if future.cancelled():
                    self.held_bytes -= byte_range.size
                elif isinstance(result, BaseException):
                    future.set_exception(result)
                else:
                    future.set_result(result)
                self._changed.notify_all()

    def _next_range(self) -> ByteRange | None:
        if not self._queue:
            return None
        size = self._queue[0].size
        return self._queue.popleft() if not self.held_bytes or self.held_bytes + size <= self._max_bytes else None
