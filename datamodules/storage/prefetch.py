"""Reads the videos of a batch at once while the first of them are decoded: a few threads, bounded in bytes.

A reader says which rows it will ask for, in order, and then asks. Nothing is ever waited for that is not being read:
what no thread has begun is read by who asks for it.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import NamedTuple

_IDLE_S = 10.0  # after which a thread ends: the next batch starts another


class ByteRange(NamedTuple):
    """Where a video lies."""

    row: int
    shard: str
    offset: int
    size: int
    sha256: str


class ReadAhead:
    """What was announced, is being read, and was read and not yet asked for. For one process; forked ones begin anew.

    Args:
        read: One place to its bytes, with all patience; raises what is wrong with this place.
        threads: At least 1; started when there is something to read, and daemons: they hold up no exit.
        max_bytes: Bound on what is being read or waits to be asked for, at least 1; a larger video is read alone.
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
        self.held_bytes = 0  # of what is in `_begun` or still being read
        self.most_bytes = 0  # that were ever held

    def expect(self, places: Sequence[ByteRange]) -> None:
        """Announce the places that will be asked for, in order; what was announced before, but not now, is let go."""
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
        """The bytes of one place, announced or not; raises what reading it raised."""
        found: bytes | None = None
        if self._process == os.getpid():
            with self._changed:
                begun = self._begun.get(place.row)
                if begun is None:  # not begun: left to nobody else
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
            return  # dropped before; or still being read: the thread sees that nobody wants it
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
            except BaseException as error:  # whatever it is, it is for who asks
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
