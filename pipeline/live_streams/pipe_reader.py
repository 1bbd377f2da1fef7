"""`PipeReader`: reads standard input or a named pipe without blocking beyond a request to stop."""

import os
import select
from collections.abc import Callable

_POLL_S = 0.25


class PipeReader:
    """A file object for PyAV that cannot seek: its `read` waits for data, for the end, or for a request to stop.

    Args:
        descriptor: file descriptor to read from.
        is_stopping: returns whether to stop; asked several times a second while waiting.

    Attributes:
        ended: whether the writer has closed the pipe.
    """

    def __init__(self, descriptor: int, is_stopping: Callable[[], bool]) -> None:
        self._descriptor, self._is_stopping = descriptor, is_stopping
        self.ended = False

    @classmethod
    def open_path(cls, path: str, is_stopping: Callable[[], bool]) -> "PipeReader":
        """Opens a named pipe, without waiting for a writer."""
        return cls(os.open(path, os.O_RDONLY | os.O_NONBLOCK), is_stopping)

    def read(self, size: int) -> bytes:
        """Reads up to `size` bytes; b"" at the end, or when asked to stop."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN | select.POLLHUP)
        while not self._is_stopping():
            # A named pipe reports no hang-up before its first writer, so this also waits for one.
            if poll.poll(_POLL_S * 1000):
                try:
                    data = os.read(self._descriptor, size)
                except BlockingIOError:
                    continue
                self.ended = not data
                return data
        return b""
