"""Truncation test: whether a file ends before its container's header says; files whose container cannot tell pass.

Only sizes in bytes are used. Durations and frame counts in headers may be those of the longest stream (RFC 9559,
Duration) or of the recording that a cut was made from, or zero where a recorder was interrupted, in intact files too.
"""

import io
import os
from collections.abc import Iterator
from typing import IO, Any

import av
import av.container
import av.format
import av.video

_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067  # RFC 8794, section 11.2.1; RFC 9559, section 5.1


def find_truncation(
    source: bytes | str | os.PathLike[str], container: av.container.InputContainer, stream: av.video.VideoStream
) -> str:
    """Why a file must be truncated, or an empty string; for mp4 and related formats, Matroska and WebM, AVI.

    Args:
        source: the bytes of the file, or its path.
        container: the open file, after its packets were read.
        stream: the video stream.
    """
    size = len(source) if isinstance(source, bytes) else os.path.getsize(source)  # noqa: PTH202 (any path-like)
    name = container.format.name
    if "mp4" in name:
        entries = [entry for entry in stream.index_entries if entry.size]
        num_complete = sum(entry.pos + entry.size <= size for entry in entries)
        return (
            ""
            if num_complete == len(entries)
            else f"its header lists {len(entries)} packets and the file holds {num_complete}"
        )
    missing = 0
    if "matroska" in name or name == "avi":
        with io.BytesIO(source) if isinstance(source, bytes) else open(source, "rb") as file:  # noqa: PTH123
            missing = _missing_bytes_avi(file, size) if name == "avi" else _missing_bytes_matroska(file, size)
    return f"it ends {missing} bytes before its end by its header" if missing > 0 else ""


def _missing_bytes_matroska(file: IO[bytes], size: int) -> int:
    """Number of bytes missing from the last segment; 0 where its size is unknown, as in live recordings."""
    position = 0
    while position < size:
        file.seek(position)
        head = file.read(12)
        number, width = _read_vint(head, keep_marker=True)
        length, length_width = _read_vint(head[width:], keep_marker=False)
        if number not in (_EBML, _SEGMENT) or not length_width or length == 2 ** (7 * length_width) - 1:
            return 0
        end = position + width + length_width + length
        if end > size:
            return end - size
        position = end
    return 0


def _read_vint(data: bytes, keep_marker: bool) -> tuple[int, int]:
    """A variable-size integer (RFC 8794, section 4) and its length in bytes; (0, 0) where there is none."""
    width = 9 - data[0].bit_length() if data and data[0] else 0
    if not width or len(data) < width:
        return 0, 0
    value = int.from_bytes(data[:width], "big")
    return (value if keep_marker else value & (2 ** (7 * width) - 1)), width


def _missing_bytes_avi(file: IO[bytes], size: int) -> int:
    """Number of bytes missing from a `movi` list; interrupted recorders leave its size at 0 or all ones (unknown)."""
    for start, length in _avi_movies(file, size):
        if 4 < length < 0xFFFFFFFF and start + length > size:
            return start + length - size
    return 0


def _avi_movies(file: IO[bytes], size: int) -> Iterator[tuple[int, int]]:
    """The position of each `movi` list's content, and its size in bytes by its header.

    What follows the last RIFF chunk is not part of the video: some writers pad files with what their memory holds.
    """
    position, riff_end = 0, 0
    while position + 12 <= size:
        file.seek(position)
        head = file.read(12)
        kind, length, content = head[:4], int.from_bytes(head[4:8], "little"), head[8:]
        if position >= riff_end and kind != b"RIFF":
            return
        if kind == b"RIFF":
            is_known = 4 < length < 0xFFFFFFFF  # interrupted recorders leave 0 or all ones
            riff_end = position + 8 + length if is_known else size
            position += 12  # its chunks come next
            continue
        if kind == b"LIST" and content == b"movi":
            yield position + 8, length
        position += 8 + length + length % 2


def is_last_packet_truncated(container: av.container.InputContainer, last_packet: "av.Packet[Any] | None") -> bool:
    """Whether the last packet is cut off by the end of the file; in transport streams it also marks lost packets."""
    return last_packet is not None and last_packet.is_corrupt and not clock_may_jump(container)


def clock_may_jump(container: av.container.InputContainer) -> bool:
    """Whether the format is a transport or program stream, whose clock may jump and whose packets may be lost."""
    return bool(av.format.Flags(int(container.format.flags)) & av.format.Flags.ts_discont)
