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
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._waiting: deque[ByteRange] = deque()
        self._begun: dict[int, tuple[ByteRange, Future[bytes]]] = {}
        self.held_bytes = 0  # bytes in `_begun` or still being read
        self.most_bytes = 0  # maximum of `held_bytes`

    def expect(self, places: Sequence[ByteRange]) -> None:
        """Announce the ranges that will be requested, in order; earlier announcements not repeated are dropped."""
        if self._process != os.getpid():
            self._forget()
        rows = {place.row for place in places}
        with self._changed:
            for row in [row for row in self._begun if row not in rows]:
                self._drop(row)
            wanted = {place.row: place for place in places if place.row not in self._begun}
            self._waiting = deque(wanted.values())
            while len(self._threads) < min(self._num_threads, len(self._waiting)):
                thread = threading.Thread(target=self._work, name="remote-reads", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify_all()

    def take(self, place: ByteRange) -> bytes:
        """Return the bytes of one range, announced or not; raises the error of its read."""
        found: bytes | None = None
        if self._process == os.getpid():
            with self._changed:
                begun = self._begun.get(place.row)
                if begun is None:  # not begun: read here, not by a thread
                    self._waiting = deque(one for one in self._waiting if one.row != place.row)
            if begun is not None:
                try:
                    found = begun[1].result()
                except CancelledError:  # another thread announced other rows meanwhile
                    found = None
                finally:
                    with self._changed:
                        self._drop(place.row)
                        self._changed.notify_all()
        return self._read(place) if found is None else found

    def _drop(self, row: int) -> None:
        place, future = self._begun.pop(row, (None, None))
        if place is None or future is None or future.cancel():
            return  # dropped before, or still being read: the thread sees that it was cancelled
        self.held_bytes -= place.size

    def _work(self) -> None:
        while True:
            with self._changed:
                while (place := self._next_place()) is None:
                    if not self._changed.wait(_IDLE_S) and not self._waiting:
                        self._threads.remove(threading.current_thread())
                        return
                future: Future[bytes] = Future()
                self._begun[place.row] = place, future
                self.held_bytes += place.size
                self.most_bytes = max(self.most_bytes, self.held_bytes)
            try:
                answer: bytes | BaseException = self._read(place)
            except BaseException as error:  # passed to the caller of `take`
                answer = error
            with self._changed:
                if future.cancelled():
                    self.held_bytes -= place.size
                elif isinstance(answer, BaseException):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
                self._changed.notify_all()

    def _next_place(self) -> ByteRange | None:
        if not self._waiting:
            return None
        size = self._waiting[0].size
        return self._waiting.popleft() if not self.held_bytes or self.held_bytes + size <= self._max_bytes else None
