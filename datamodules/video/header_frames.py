"""Decoding of mp4 frames by the frame list in the file's header: only packets that are decoded are read.

The header of an mp4 of H.264 without B-frames, which is what this project packs, lists all frames and the key frames.
The simplest files are not even opened by FFmpeg (`datamodules.video.mp4_sample_table`). Each decoded frame's timestamp
is compared with the listed one.
"""

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import av
import av.container
import av.video

from datamodules.video.mp4_sample_table import SampleTable, read_sample_table
from datamodules.video.video_container import LIMITS, MAX_FRAMES, Source, open_video

# Decoders of this thread: creating one costs as much as decoding several frames.
_thread_cache = threading.local()
_MAX_CACHED_DECODERS = 8


class NotIndexedError(Exception):
    """The timestamps of a file's packets do not identify its frames."""


def frames_by_header(source: Source, indices: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decodes the wanted frames, each from the key frame before it; yields (index, frame), ascending.

    Args:
        source: the bytes of a video file, or its path.
        indices: frame numbers, ascending, distinct and not negative.

    Raises:
        NotIndexedError: the header does not list the frames, or a decoded frame differs from the list.
    """
    table = read_sample_table(source) if isinstance(source, bytes) else None
    if isinstance(source, bytes) and table is not None:
        yield from _frames_by_table(source, table, indices)
        return
    with open_video(source) as (container, stream):
        times, keys = _read_header(container, stream)
        if indices[-1] >= len(times):
            raise NotIndexedError  # the next method, which reads the packets, finds the number of frames
        decoder, expected = stream.codec_context, 0
        packets: Iterator[av.Packet[Any]] = iter(())
        for index in indices:
            key = keys[bisect_right(keys, index) - 1]
            if key >= expected:
                container.seek(times[key], stream=stream)  # also flushes the decoder
                packets, expected = container.demux(stream), key
            while expected <= index:
                packet = next(packets, None)
                if packet is None:
                    raise NotIndexedError  # the file holds fewer packets than its header lists
                for frame in decoder.decode(packet):
                    if frame.pts != times[expected] or frame.is_corrupt:
                        raise NotIndexedError
                    if expected == index:
                        yield index, frame
                    expected += 1


def _frames_by_table(data: bytes, table: SampleTable, indices: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    if indices[-1] >= len(table.sizes):
        raise NotIndexedError
    with _borrow_decoder(table.configuration) as decoder:
        expected = -1  # number of the next frame, none yet
        for index in indices:
            key = table.keys[bisect_right(table.keys, index) - 1]
            if key > expected:  # not a key frame that follows the frame before
                decoder.flush_buffers()
                expected = key
            while expected <= index:
                frames = decoder.decode(_packet(data, table, expected))
                if [frame.pts for frame in frames] != [expected] or frames[0].is_corrupt:
                    raise NotIndexedError
                if expected == index:
                    yield index, frames[0]
                expected += 1


def _packet(data: bytes, table: SampleTable, number: int) -> "av.Packet[Any]":
    """A frame's packet, with the frame number as its timestamp."""
    start = table.offsets[number]
    packet: av.Packet[Any] = av.Packet(data[start : start + table.sizes[number]])
    packet.pts = packet.dts = number
    return packet


@contextmanager
def _borrow_decoder(configuration: bytes) -> "Iterator[av.VideoCodecContext]":
    """Lends this thread's decoder of a configuration, or a new one; it is returned to the thread's cache at the end.

    A flush keeps only the decoder's configuration, which in `avc1` is in the header alone.
    """
    decoders: dict[bytes, av.VideoCodecContext] = _thread_cache.__dict__.setdefault("decoders", {})
    decoder = decoders.pop(configuration, None)
    if decoder is None:
        decoder = av.CodecContext.create("h264", "r")
        decoder.extradata = configuration
        decoder.options = LIMITS
        decoder.thread_type, decoder.thread_count = "NONE", 1
    try:
        yield decoder
    finally:
        decoders[configuration] = decoder
        if len(decoders) > _MAX_CACHED_DECODERS:
            decoders.pop(next(iter(decoders)))


def _read_header(container: av.container.InputContainer, stream: av.video.VideoStream) -> tuple[list[int], list[int]]:
    """The timestamps of all frames, ascending, and the frame numbers of the key frames, of which the first is 0."""
    if stream.codec_context.name != "h264" or stream.codec_context.has_b_frames or "mp4" not in container.format.name:
        raise NotIndexedError
    times: list[int] = []
    keys: list[int] = []
    for entry in stream.index_entries:
        if entry.is_discard or not entry.size or len(times) == MAX_FRAMES:
            raise NotIndexedError
        if entry.is_keyframe:
            keys.append(len(times))
        times.append(entry.timestamp)
    if not keys or keys[0] != 0 or len(times) != stream.frames or any(a >= b for a, b in pairwise(times)):
        raise NotIndexedError
    return times, keys
