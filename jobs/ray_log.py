"""What a job's driver prints of the cluster's logs: all lines but those of Ray that nobody can act on."""

import sys
from typing import Any, TextIO

from jobs.ray_internals import CORE_NOISE


class LogStream:
    """A text stream without Ray's noise.

    Args:
        stream: Where the other lines go. Ray prints every line of every process by one `print`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._left_out = False

    def write(self, text: str) -> int:
        """Write text, unless it is such a line, or the end of one."""
        end_of_one = self._left_out and text == "\n"
        noise = CORE_NOISE in text
        self._left_out = noise and not text.endswith("\n")
        return len(text) if noise or end_of_one else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def leave_out_noise() -> None:
    """Print no noise on standard error from now on."""
    if not isinstance(sys.stderr, LogStream):
        sys.stderr = LogStream(sys.stderr)  # a TextIO in all that Ray and we call
