"""PyAV: only the frames that are asked for, exactly; `datamodules.decoding` is the way in.

An mp4 of H.264 without B-frames, which is what we pack, lists all frames and the key frames in its header, and the
plainest are not even opened by FFmpeg (`datamodules.sample_table`); of others the packets are read once. For each run
of wanted frames decoding starts at the key frame before it. Every time that comes out is held against the listed ones;
where they disagree, or a frame is damaged, the packets are read, and where those disagree too, frames are counted from
the start of the file.
"""

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import av
import av.container
import av.video
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from datamodules.orientation import orientation_of
from datamodules.packets import facts_of, in_order
from datamodules.sample_table import SampleTable, read_sample_table
from datamodules.video_container import (
    LIMITS,
    MAX_FRAMES,
    OUT_OF_RANGE,
    TOO_LARGE,
    DecodeError,
    iterate_frames,
    open_video,
)

Frames = npt.NDArray[np.uint8]

# A thread's converter and decoders: setting one up costs as much as converting, decoding several frames.
_kept = threading.local()
_KEPT_DECODERS = 8


class NotIndexedError(Exception):
    """The packets' times do not say which frame is which."""


class PacketIndex(NamedTuple):
    """The packets of a video and what they say about its frames.

    Attributes:
        packets: all packets, in the order in which they are decoded.
        times: presentation times of the frames that are shown, ascending; index i of a video is `times[i]`.
        keys: positions of the key frames in `packets`, ascending.
        key_times: their presentation times, ascending.
    """

    packets: "list[av.Packet[Any]]"
    times: list[int]
    keys: list[int]
    key_times: list[int]


def decode_pyav(data: bytes, indices: list[int]) -> Frames:
    """Decodes frames with PyAV.

    Args:
        data: the bytes of a video file.
        indices: ascending, distinct and not negative.

    Returns:
        uint8 (T, H, W, 3), RGB, upright.

    Raises:
        DecodeError: the video does not decode, or has too few frames.
    """
    for frames in (frames_by_header, _frames_by_index):
        try:
            return _collect(frames(data, indices), indices)
        except (NotIndexedError, av.FFmpegError):
            continue
    return _collect(enumerate(iterate_frames(data)), indices)


def out_of_range(index: int, count: int | None = None) -> DecodeError:
    """The error for a frame that a video of `count` frames does not have."""
    has = "" if count is None else f": the video has {count} frames"
    return DecodeError(f"frame {index} is out of range{has}", OUT_OF_RANGE)


def _collect(frames: Iterator[tuple[int, av.VideoFrame]], indices: list[int]) -> Frames:
    """Converts the wanted ones of ascending (index, frame) pairs, and stops at the last; uint8 (T, H, W, 3)."""
    result: Frames | None = None
    taken = count = 0
    for index, frame in frames:
        count = index + 1
        if index != indices[taken]:
            continue
        shown = orientation_of(frame)
        if result is None:
            width, height = frame.width, frame.height
            shape = (width, height) if shown.swaps_sides else (height, width)
            result = np.empty((len(indices), *shape, 3), np.uint8)
        pixels = _rgb(frame, width, height)  # a stream that changes its size is scaled to its first wanted frame
        result[taken] = shown.apply(pixels)
        taken += 1
        if taken == len(indices):
            return result
    raise out_of_range(indices[taken], count)


def _rgb(frame: av.VideoFrame, width: int, height: int) -> Frames:
    """A view of the frame's pixels in RGB, uint8 (H, W, 3), as stored (not turned)."""
    converter: VideoReformatter | None = getattr(_kept, "converter", None)
    if converter is None:
        converter = _kept.converter = VideoReformatter()
    rgb = converter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
    plane = rgb.planes[0]
    rows: Frames = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)  # rows are padded
    return rows[:height, : 3 * width].reshape(height, width, 3)


def read_index(container: av.container.InputContainer, stream: av.video.VideoStream) -> PacketIndex:
    """Reads all packets; raises NotIndexedError where their times do not number the frames."""
    if not any(kind in container.format.name for kind in ("mp4", "matroska")):
        raise NotIndexedError  # AVI has no presentation times, and the key frame marks of MPEG-TS are not to lean on
    packets: list[av.Packet[Any]] = []
    for packet in container.demux(stream):
        if packet.size:
            packets.append(packet)
            if len(packets) > MAX_FRAMES:
                raise DecodeError(f"it has more than {MAX_FRAMES} frames", TOO_LARGE)
    facts = [facts_of(packet, stream.codec_context) for packet in packets]
    if not in_order(facts):
        raise NotIndexedError  # the clock starts again, or pictures at the beginning are never shown
    times = sorted(packet_time(packet) for packet, said in zip(packets, facts, strict=True) if said.shown)
    keys = [position for position, packet in enumerate(packets) if packet.is_keyframe]
    key_times = [packet_time(packets[position]) for position in keys]
    if not times or any(a >= b for a, b in pairwise(times)) or any(a >= b for a, b in pairwise(key_times)):
        raise NotIndexedError
    return PacketIndex(packets, times, keys, key_times)


def packet_time(packet: "av.Packet[Any]") -> int:
    """When a packet's frame is shown; raises NotIndexedError where it does not say."""
    if packet.pts is None:
        raise NotIndexedError
    return packet.pts


def frames_by_header(data: bytes, indices: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Like `_frames_by_index`, by what an mp4's header lists: no packet is read that is not decoded.

    Args:
        data: the bytes of a video file.
        indices: ascending, distinct and not negative.

    Raises:
        NotIndexedError: the header does not say which frame is which, or what comes out differs from what it says.
    """
    table = read_sample_table(data)
    if table is not None:
        yield from _frames_by_table(data, table, indices)
        return
    with open_video(data) as (container, stream):
        times, keys = _read_header(container, stream)
        if indices[-1] >= len(times):
            raise NotIndexedError  # the packets will tell how many there are
        decoder, expected = stream.codec_context, 0
        packets: Iterator[av.Packet[Any]] = iter(())
        for index in indices:
            key = keys[bisect_right(keys, index) - 1]
            if key >= expected:
                container.seek(times[key], stream=stream)  # forgets what the decoder holds, too
                packets, expected = container.demux(stream), key
            while expected <= index:
                packet = next(packets, None)
                if packet is None:
                    raise NotIndexedError  # the file holds less than its header lists
                for frame in decoder.decode(packet):
                    if frame.pts != times[expected] or frame.is_corrupt:
                        raise NotIndexedError
                    if expected == index:
                        yield index, frame
                    expected += 1


def _frames_by_table(data: bytes, table: SampleTable, indices: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    if indices[-1] >= len(table.sizes):
        raise NotIndexedError
    with _decoder(table.setup) as decoder:
        expected = 0
        for index in indices:
            key = table.keys[bisect_right(table.keys, index) - 1]
            if key >= expected:
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
    """The bytes of a frame, of which its number is the time."""
    start = table.offsets[number]
    packet: av.Packet[Any] = av.Packet(data[start : start + table.sizes[number]])
    packet.pts = packet.dts = number
    return packet


@contextmanager
def _decoder(setup: bytes) -> "Iterator[av.VideoCodecContext]":
    """A decoder for videos of such a configuration, of this thread; nobody else has it meanwhile.

    What a flush leaves of the video before is the configuration, which in `avc1` is in the header alone.
    """
    kept: dict[bytes, av.VideoCodecContext] = _kept.__dict__.setdefault("decoders", {})
    decoder = kept.pop(setup, None)
    if decoder is None:
        decoder = av.CodecContext.create("h264", "r")
        decoder.extradata = setup
        decoder.options = LIMITS
        decoder.thread_type, decoder.thread_count = "NONE", 1
    try:
        yield decoder
    finally:
        kept[setup] = decoder
        if len(kept) > _KEPT_DECODERS:
            kept.pop(next(iter(kept)))


def _read_header(container: av.container.InputContainer, stream: av.video.VideoStream) -> tuple[list[int], list[int]]:
    """Times of all frames, ascending, and the positions of the key frames, of which the first frame is one."""
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


def _frames_by_index(data: bytes, indices: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decodes from the key frame before each wanted frame; yields (index, frame), ascending, with gaps.

    Raises:
        NotIndexedError: times are missing, doubled or not what comes out, or a frame is damaged: count from the start.
    """
    with open_video(data) as (container, stream):
        packets, times, keys, key_times = read_index(container, stream)
        if indices[-1] >= len(times):
            raise out_of_range(indices[-1], len(times))
        decoder = stream.codec_context
        position = expected = start_time = 0  # next packet to decode, number of the next frame to come out
        ready: list[av.VideoFrame] = []
        for index in indices:
            nearest = bisect_right(key_times, times[index]) - 1
            if nearest < 0:
                raise NotIndexedError
            if keys[nearest] >= position:
                if position > 0:
                    decoder.flush_buffers()
                position, start_time, ready = keys[nearest], key_times[nearest], []
                expected = bisect_left(times, start_time)
            while expected <= index:
                while not ready:
                    if position > len(packets):
                        raise NotIndexedError
                    ready = list(decoder.decode(packets[position] if position < len(packets) else None))
                    position += 1
                frame = ready.pop(0)
                if frame.pts is not None and frame.pts < start_time:
                    continue  # open groups of pictures: frames after the key frame that are shown before it
                if frame.pts != times[expected] or frame.is_corrupt:
                    raise NotIndexedError
                yield expected, frame
                expected += 1
