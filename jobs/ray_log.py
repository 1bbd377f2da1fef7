"""Filter of the cluster's logs that the driver prints: drops lines of Ray that users cannot act on."""

import sys
from typing import Any, TextIO

from jobs.ray_internals import CORE_NOISE


class LogStream:
    """Text stream that drops Ray's noise.

    Args:
        stream: The stream for all other lines. Ray prints every line of every process by one `print`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._left_out = False

    def write(self, text: str) -> int:
        """Write text, unless it is a line of noise or the newline after one."""
        end_of_one = self._left_out and text == "\n"
        noise = CORE_NOISE in text
        self._left_out = noise and not text.endswith("\n")
        return len(text) if noise or end_of_one else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def leave_out_noise() -> None:
    """Filter standard error from now on."""
    if not isinstance(sys.stderr, LogStream):
        sys.stderr = LogStream(sys.stderr)  # a TextIO in all that Ray and we call
