"""Sample table of an mp4: byte ranges of its frames, read without FFmpeg (opening costs a fifth of decoding 16 frames).

Only the simple files that this project packs are read: one upright track of H.264, no edits, no reordered frames, no
fragments. For all others `read_sample_table` returns None, and FFmpeg opens them. Format: ISO/IEC 14496-12 (boxes:
sections 4.2 and 8) and 14496-15 (`avcC`).
"""

import struct
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_UPRIGHT = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_KNOWN_BOXES = {b"avcC", b"btrt", b"pasp"}  # boxes of a sample entry that need no decoder setting (`colr` would)
_SAMPLE_ENTRY_BYTES = 86  # size of an `avc1` sample entry before its boxes

Boxes = dict[bytes, list[memoryview]]


class SampleTable(NamedTuple):
    """The frames of a video in decoding order, which is also their presentation order.

    Attributes:
        configuration: the decoder's configuration, the content of `avcC`.
        offsets: byte offset of each frame from the start of the file.
        sizes: size of each frame in bytes.
        keys: numbers of the key frames, ascending; the first is 0.
    """

    configuration: bytes
    offsets: list[int]
    sizes: list[int]
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
    start = 0
    while start < len(content):
        size, kind = struct.unpack_from(">I4s", content, start)
        header = 8
        if size == 1:
            [size] = struct.unpack_from(">Q", content, start + 8)
            header = 16
        if size == 0:
            size = len(content) - start
        if size < header or start + size > len(content):
            raise ValueError("a box is not whole")
        found.setdefault(bytes(kind), []).append(content[start + header : start + size])
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
    uniform, count = struct.unpack_from(">II", _single_box(table, b"stsz"), 4)
    sizes = np.full(count, uniform, np.int64) if uniform else _numbers(_single_box(table, b"stsz")[12:], ">u4", count)
    chunks = _read_entries(table, b"co64", ">u8") if b"co64" in table else _read_entries(table, b"stco", ">u4")
    offsets = _offsets(sizes, chunks, _read_entries(table, b"stsc", ">u4", 3).reshape(-1, 3))
    times = _read_entries(table, b"stts", ">u4", 2).reshape(-1, 2)
    keys = _read_entries(table, b"stss", ">u4") - 1 if b"stss" in table else np.arange(count)
    ascending = (times[:, 1] > 0).all() and (np.diff(keys) > 0).all()
    if configuration is None or not count or times[:, 0].sum() != count or not ascending:
        return None
    if not (sizes > 0).all() or not len(keys) or keys[0] != 0 or keys[-1] >= count or (offsets + sizes).max() > length:
        return None
    return SampleTable(configuration, offsets.tolist(), sizes.tolist(), keys.tolist())


def _decoder_configuration(descriptions: memoryview) -> bytes | None:
    """The content of `avcC`, or None where the sample entries are not one of H.264."""
    [(kind, [entry])] = _boxes(descriptions[8:]).items()
    parts = _boxes(entry[_SAMPLE_ENTRY_BYTES - 8 :])
    return bytes(_single_box(parts, b"avcC")) if kind == b"avc1" and set(parts) <= _KNOWN_BOXES else None


def _read_entries(table: Boxes, kind: bytes, dtype: str, columns: int = 1) -> npt.NDArray[np.int64]:
    """The entries of a box that begins with their number."""
    content = _single_box(table, kind)
    [count] = struct.unpack_from(">I", content, 4)
    return _numbers(content[8:], dtype, count * columns)


def _numbers(content: memoryview, dtype: str, count: int) -> npt.NDArray[np.int64]:
    return np.frombuffer(content, dtype, count).astype(np.int64)


def _offsets(
    sizes: npt.NDArray[np.int64], chunks: npt.NDArray[np.int64], runs: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Byte offset of each sample.

    Args:
        sizes: (samples,), bytes.
        chunks: (chunks,), byte offset of each chunk.
        runs: (runs, 3): the first chunk of the run, from 1; samples per chunk; number of the sample description.
    """
    lengths = np.diff(np.append(runs[:, 0], len(chunks) + 1))
    in_chunk = np.repeat(runs[:, 1], lengths)  # raises ValueError if the chunks are not in order
    if runs[0, 0] != 1 or (runs[:, 2] != 1).any() or in_chunk.sum() != len(sizes):
        raise ValueError("chunks and samples disagree")
    before = np.cumsum(sizes) - sizes
    first = np.repeat(np.cumsum(in_chunk) - in_chunk, in_chunk)  # number of the first sample in each sample's chunk
    offsets: npt.NDArray[np.int64] = np.repeat(chunks, in_chunk) + before - before[first]
    return offsets
