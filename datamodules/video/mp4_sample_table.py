"""Sample table of an mp4: byte ranges of its frames, read without FFmpeg (opening costs a fifth of decoding 16 frames).

Only the simple files that this project packs are read: one upright track of H.264, no edits, no reordered frames, no
fragments. For all others `read_sample_table` returns None, and FFmpeg opens them. Format: ISO/IEC 14496-12 (boxes:
sections 4.2 and 8) and 14496-15 (`avcC`).
"""

import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_UPRIGHT = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_KNOWN_BOXES = {b"avcC", b"btrt", b"pasp"}  # boxes of a sample entry that need no decoder setting (`colr` would)
_SAMPLE_ENTRY_BYTES = 86  # size of an `avc1` sample entry before its boxes

Integers = NDArray[np.int64]
Boxes = dict[bytes, list[memoryview]]


class SampleTable(NamedTuple):
    """The frames of a video in decoding order, which is also their presentation order.

    Attributes:
        configuration: the decoder's configuration, the content of `avcC`.
        offsets: int64, byte offset of each frame from the start of the file.
        sizes: int64, size of each frame in bytes.
        keys: numbers of the key frames, ascending; the first is 0.
    """

    configuration: bytes
    offsets: Integers
    sizes: Integers
    keys: list[int]


def read_sample_table(data: bytes) -> SampleTable | None:
    """Reads the header of an mp4; None if it is not of the simple kind, or truncated.

    Args:
        data: the bytes of a video file.
    """
    try:
        top = _boxes(memoryview(data))
        movie = _boxes(_single_box(top, b"moov"))
        if b"mvex" in movie or _single_box(movie, b"mvhd")[-64:-28].tobytes() != _UPRIGHT:
            return None
        tracks = [_boxes(track) for track in movie[b"trak"]]
        videos = [(track, media) for track in tracks if (media := _video_media(track)) is not None]
        if len(videos) != 1:
            return None
        [(track, media)] = videos
        table = _boxes(_single_box(_boxes(_single_box(media, b"minf")), b"stbl"))
        if not _is_plain(track) or b"ctts" in table:
            return None
        return _sample_table(table, len(data))
    except (LookupError, ValueError, struct.error):
        return None


def _boxes(content: memoryview) -> Boxes:
    """The contents of the boxes by their type; a box's size may have 64 bits, or extend to the end."""
    found: Boxes = {}
    start, end = 0, len(content)
    while start < end:
        size, kind = struct.unpack_from(">I4s", content, start)
        header = 8
        if size == 1:
            [size] = struct.unpack_from(">Q", content, start + 8)
            header = 16
        if size == 0:
            size = end - start
        if size < header or start + size > end:
            raise ValueError("a box is not whole")
        found.setdefault(kind, []).append(content[start + header : start + size])
        start += size
    return found


def _single_box(boxes: Boxes, kind: bytes) -> memoryview:
    [content] = boxes[kind]
    return content


def _video_media(track: Boxes) -> Boxes | None:
    """The `mdia` box of a video track, None for other tracks."""
    media = _boxes(_single_box(track, b"mdia"))
    return media if _single_box(media, b"hdlr")[8:12].tobytes() == b"vide" else None


def _is_plain(track: Boxes) -> bool:
    """Whether a track is upright and played once, from its first frame, at its own speed."""
    if _single_box(track, b"tkhd")[-44:-8].tobytes() != _UPRIGHT:
        return False
    if b"edts" not in track:
        return True
    edits = _single_box(_boxes(_single_box(track, b"edts")), b"elst")
    version, count = edits[0], struct.unpack_from(">I", edits, 4)[0]
    _, start, rate = struct.unpack_from(">QqI" if version == 1 else ">IiI", edits, 8)
    return bool(count == 1 and start == 0 and rate == 0x10000)


def _sample_table(table: Boxes, length: int) -> SampleTable | None:
    configuration = _decoder_configuration(_single_box(table, b"stsd"))
    sizes = _read_sizes(_single_box(table, b"stsz"), length)
    chunks = _read_entries(table, b"co64", "Q") if b"co64" in table else _read_entries(table, b"stco")
    offsets = _offsets(sizes, chunks, _read_entries(table, b"stsc", columns=3), length)
    times = _read_entries(table, b"stts", columns=2)
    keys = [key - 1 for key in _read_entries(table, b"stss")] if b"stss" in table else list(range(len(sizes)))
    if configuration is None or sum(times[::2]) != len(sizes) or min(times[1::2]) <= 0:
        return None
    if keys[0] != 0 or keys[-1] >= len(sizes) or keys != sorted(set(keys)):
        return None
    return SampleTable(configuration, offsets, sizes, keys)


def _decoder_configuration(descriptions: memoryview) -> bytes | None:
    """The content of `avcC`, or None where the sample entries are not one of H.264."""
    [(kind, [entry])] = _boxes(descriptions[8:]).items()
    parts = _boxes(entry[_SAMPLE_ENTRY_BYTES - 8 :])
    return bytes(_single_box(parts, b"avcC")) if kind == b"avc1" and set(parts) <= _KNOWN_BOXES else None


def _read_sizes(content: memoryview, length: int) -> Integers:
    """The sizes of all samples of a file of `length` bytes; ValueError where there are none, or one is empty."""
    uniform, count = struct.unpack_from(">II", content, 4)
    if count > length:
        raise ValueError("more samples than bytes")
    sizes = np.full(count, uniform) if uniform else np.frombuffer(content, ">u4", count, 12).astype(np.int64)
    if sizes.min() <= 0:
        raise ValueError("a sample is empty")
    return sizes


def _read_entries(table: Boxes, kind: bytes, code: str = "I", columns: int = 1) -> tuple[int, ...]:
    """The entries of a box that begins with their number, one after the other, as `struct` reads them."""
    content = _single_box(table, kind)
    [count] = struct.unpack_from(">I", content, 4)
    return struct.unpack_from(f">{count * columns}{code}", content, 8)


def _offsets(sizes: Integers, chunks: Sequence[int], runs: Sequence[int], length: int) -> Integers:
    """Byte offset of each sample.

    Args:
        sizes: bytes of each sample.
        chunks: byte offset of each chunk.
        runs: three numbers a run: its first chunk, from 1; samples per chunk; number of the sample description.
        length: bytes of the file.

    Raises:
        ValueError: chunks and samples disagree, or the file ends before them.
    """
    firsts = [*runs[::3], len(chunks) + 1]
    if firsts[0] != 1 or firsts != sorted(firsts) or set(runs[2::3]) != {1}:
        raise ValueError("chunks are not in order, or of several kinds")
    counts = [
        per_chunk
        for (first, stop), per_chunk in zip(pairwise(firsts), runs[1::3], strict=True)
        for _ in range(first, stop)
    ]
    if sum(counts) != len(sizes):
        raise ValueError("a sample is in no chunk, or a chunk is not whole")
    offsets = np.cumsum(sizes) - sizes  # as if they were one after the other
    start = 0
    for chunk, count in zip(chunks, counts, strict=True):
        offsets[start : start + count] += min(chunk, length) - offsets[start]
        start += count
    if (offsets + sizes).max() > length:
        raise ValueError("the file ends before a sample")
    return offsets
