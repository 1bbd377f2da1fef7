"""Reads the videos of a batch at once while the first of them are decoded: a few threads, bounded in bytes.

A reader says which rows it will ask for, in order, and then asks. Neighbors in a shard come in one read. Nothing is
ever waited for that is not being read: what no thread has begun is read by who asks for it.
"""

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future
from typing import NamedTuple

MAX_GAP_BYTES = 2**15  # between neighbors that are read together: what one round trip would cost at 1 MB/s and more
MAX_TOGETHER_BYTES = 2**22  # of one read: larger ones gain nothing and cost concurrency
_IDLE_S = 10.0  # after which a thread ends: the next batch starts another


class ByteRange(NamedTuple):
    """Where a video lies."""

    row: int
    shard: str
    offset: int
    size: int
    sha256: str


Job = tuple[ByteRange, ...]  # neighbors, read together
Answers = list[bytes | None]


def group_neighbors(places: Sequence[ByteRange]) -> list[Job]:
    """Places that follow each other closely in a shard, together; the groups in the order of their first place."""
    order = {place.row: number for number, place in enumerate(places)}
    groups: list[list[ByteRange]] = []
    for place in sorted(places, key=lambda place: (place.shard, place.offset)):
        if groups and _fits(groups[-1], place):
            groups[-1].append(place)
        else:
            groups.append([place])
    return sorted(map(tuple, groups), key=lambda group: min(order[place.row] for place in group))


def _fits(group: list[ByteRange], place: ByteRange) -> bool:
    last = group[-1]
    gap = place.offset - last.offset - last.size
    total = place.offset + place.size - group[0].offset
    return place.shard == last.shard and 0 <= gap <= MAX_GAP_BYTES and total <= MAX_TOGETHER_BYTES


class ReadAhead:
    """What was announced, is being read, and was read and not yet asked for. For one process; forked ones begin anew.

    Args:
        read: One place to its bytes, with all patience; raises what is wrong with this place.
        read_together: Neighbors to the bytes of each, None for those that want reading one by one.
        threads: At least 1; started when there is something to read, and daemons: they hold up no exit.
        max_bytes: Bound on what is being read or waits to be asked for; a larger video is read alone.
    """

    def __init__(
        self,
        read: Callable[[ByteRange], bytes],
        read_together: Callable[[Job], Answers],
        threads: int,
        max_bytes: int,
    ):
        for name, value in (("remote_reads", threads), ("remote_read_bytes", max_bytes)):
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        self._read = read
        self._read_together = read_together
        self._num_threads = threads
        self._max_bytes = max_bytes
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._waiting: deque[Job] = deque()
        self._begun: dict[int, tuple[ByteRange, Future[bytes | None]]] = {}
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
            self._waiting = deque(group_neighbors(list(wanted.values())))
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
                    self._waiting = deque(
                        job for group in self._waiting if (job := tuple(one for one in group if one.row != place.row))
                    )
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
                while (job := self._next_job()) is None:
                    if not self._changed.wait(_IDLE_S) and not self._waiting:
                        self._threads.remove(threading.current_thread())
                        return
                futures: list[Future[bytes | None]] = [Future() for _ in job]
                for place, future in zip(job, futures, strict=True):
                    self._begun[place.row] = place, future
                    self.held_bytes += place.size
                self.most_bytes = max(self.most_bytes, self.held_bytes)
            try:
                answers: Answers | BaseException = [self._read(job[0])] if len(job) == 1 else self._read_together(job)
            except BaseException as error:  # whatever it is, it is for who asks
                answers = error
            self._answer(job, futures, answers)

    def _next_job(self) -> Job | None:
        if not self._waiting:
            return None
        size = sum(place.size for place in self._waiting[0])
        return self._waiting.popleft() if not self.held_bytes or self.held_bytes + size <= self._max_bytes else None

    def _answer(self, job: Job, futures: list[Future[bytes | None]], answers: Answers | BaseException) -> None:
        with self._changed:
            for number, (place, future) in enumerate(zip(job, futures, strict=True)):
                if future.cancelled():
                    self.held_bytes -= place.size
                elif isinstance(answers, BaseException):
                    future.set_exception(answers)
                else:
                    future.set_result(answers[number])
            self._changed.notify_all()
