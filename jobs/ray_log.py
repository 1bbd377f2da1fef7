"""Filter of the cluster's logs that the driver prints: drops lines of Ray that users cannot act on."""

import sys
from typing import Any, TextIO

from jobs.ray_internals import CORE_NOISE


class FilteredLogStream:
    """Text stream that drops Ray's noise.

    Args:
        stream: The stream for all other lines. Ray prints every line of every process by one `print`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_line_dropped = False

    def write(self, text: str) -> int:
        """Write text, unless it is a line of noise or the newline after one."""
        is_end_of_dropped = self._is_line_dropped and text == "\n"
        is_noise = CORE_NOISE in text
        self._is_line_dropped = is_noise and not text.endswith("\n")
        return len(text) if is_noise or is_end_of_dropped else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def filter_ray_log() -> None:
    """Filter standard error from now on."""
    if not isinstance(sys.stderr, FilteredLogStream):
        sys.stderr = FilteredLogStream(sys.stderr)  # a TextIO in all that Ray and we call
