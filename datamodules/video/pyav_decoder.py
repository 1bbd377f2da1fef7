"""PyAV decoder: exactly the wanted frames, from the nearest key frames; called through `datamodules.video.decoding`.

Three methods are tried in turn. Packed videos list their frames in the header (`datamodules.video.header_frames`). For
others all packets are read once, and each run of wanted frames is decoded from the key frame before it. Every decoded
frame's timestamp is compared with the listed one; if they disagree, or a frame is damaged, the next method continues,
and the last one counts frames from the start of the file. Frames come in one pass, in chunks that bound the memory.
"""

import threading
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice, pairwise
from typing import Any, NamedTuple

import av
import av.container
import av.video
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from datamodules.video.header_frames import NotIndexedError, frames_by_header
from datamodules.video.orientation import orientation_of
from datamodules.video.packets import PacketInfo, packets_are_ordered, read_packet_info
from datamodules.video.video_container import (
    MAX_FRAMES,
    OUT_OF_RANGE,
    TOO_LARGE,
    DecodeError,
    Source,
    iterate_frames,
    open_video,
)

Frames = npt.NDArray[np.uint8]

# The pixel converter of this thread: creating one costs as much as converting several frames.
_thread_cache = threading.local()


class PacketIndex(NamedTuple):
    """The packets of a video and the presentation timestamps of its frames.

    Attributes:
        packets: what `summarize` returned for each packet, in decoding order.
        times: presentation timestamps of the shown frames, ascending; frame i is shown at `times[i]`.
        keys: positions of the key frames in `packets`, ascending.
        key_times: presentation timestamps of the key frames, ascending.
    """

    packets: list[Any]
    times: list[int]
    keys: list[int]
    key_times: list[int]


def pyav_chunks(source: Source, indices: Sequence[int], chunk_bytes: int | None = None) -> Iterator[Frames]:
    """Decodes frames with PyAV in one pass over the file, one chunk in memory at a time.

    Args:
        source: the bytes of a video file, or its path; a file given by path is not loaded into memory.
        indices: frame numbers, ascending, distinct and not negative.
        chunk_bytes: maximum size of the frames of a chunk, which has at least one frame; None: all in one chunk.

    Yields:
        uint8 (n, H, W, 3), RGB, upright: the next n frames.

    Raises:
        DecodeError: the video does not decode, or has too few frames.
    """
    chunk: Frames | None = None
    shape: tuple[int, ...] = ()
    filled, left = 0, len(indices)
    for frame in _iterate_selected(source, indices):
        orientation = orientation_of(frame)
        if not shape:
            width, height = frame.width, frame.height
            shape = (width, height) if orientation.swaps_sides else (height, width)
        if chunk is None:
            chunk = np.empty((chunk_length(shape, left, chunk_bytes), *shape, 3), np.uint8)
        pixels = rgb_pixels(
            frame, width, height
        )  # if the size changes within the stream, scale to the first wanted frame
        chunk[filled] = orientation.apply(pixels)
        filled += 1
        if filled == len(chunk):
            yield chunk
            chunk, filled, left = None, 0, left - filled


def chunk_length(shape: Sequence[int], left: int, chunk_bytes: int | None) -> int:
    """Number of frames of the next chunk, 1 to `left`, for frames of `shape` (height, width)."""
    return left if chunk_bytes is None else max(1, min(left, chunk_bytes // (3 * shape[0] * shape[1])))


def _iterate_selected(source: Source, indices: Sequence[int]) -> Iterator[av.VideoFrame]:
    """The frames at ascending indices; where one method fails, the next continues with the remaining indices."""
    done = count = 0
    for frames_of in (frames_by_header, _frames_by_index, _frames_by_counting):
        with suppress(NotIndexedError, av.FFmpegError):
            for index, frame in frames_of(source, indices[done:]):
                count = index + 1
                if index == indices[done]:
                    yield frame
                    done += 1
                    if done == len(indices):
                        return
    raise out_of_range(indices[done], count)


def _frames_by_counting(source: Source, indices: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Every frame from the first one on; `indices` is ignored."""
    yield from enumerate(iterate_frames(source))


def out_of_range(index: int, count: int | None = None) -> DecodeError:
    """The error for a frame that a video of `count` frames does not have."""
    has = "" if count is None else f": the video has {count} frames"
    return DecodeError(f"frame {index} is out of range{has}", OUT_OF_RANGE)


def rgb_pixels(frame: av.VideoFrame, width: int, height: int) -> Frames:
    """A view of the frame's pixels in RGB, uint8 (H, W, 3), as stored (not turned)."""
    converter: VideoReformatter | None = getattr(_thread_cache, "converter", None)
    if converter is None:
        converter = _thread_cache.converter = VideoReformatter()
    rgb = converter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
    plane = rgb.planes[0]
    rows: Frames = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)  # rows are padded
    return rows[:height, : 3 * width].reshape(height, width, 3)


def read_index(
    container: av.container.InputContainer,
    stream: av.video.VideoStream,
    summarize: "Callable[[av.Packet[Any]], Any]" = lambda packet: packet,
) -> PacketIndex:
    """Reads all packets of an open video, and indexes them by presentation timestamp.

    Args:
        container: the open container.
        stream: the video stream to read.
        summarize: what to store for each packet; the default stores the packets themselves, as many bytes as the file.

    Raises:
        NotIndexedError: the timestamps do not number the frames, or the container is neither mp4 nor Matroska.
    """
    if not any(kind in container.format.name for kind in ("mp4", "matroska")):
        raise NotIndexedError  # AVI has no presentation timestamps, and key frame flags of MPEG-TS are unreliable
    packets: list[Any] = []
    infos: list[PacketInfo] = []
    for packet in container.demux(stream):
        if packet.size:
            packets.append(summarize(packet))
            infos.append(read_packet_info(packet, stream.codec_context))
            if len(packets) > MAX_FRAMES:
                raise DecodeError(f"it has more than {MAX_FRAMES} frames", TOO_LARGE)
    if not packets_are_ordered(infos):
        raise NotIndexedError  # the clock starts again, or pictures at the beginning are never shown
    times = sorted(_time(info) for info in infos if info.shown)
    keys = [position for position, info in enumerate(infos) if info.key]
    key_times = [_time(infos[position]) for position in keys]
    if not times or any(a >= b for a, b in pairwise(times)) or any(a >= b for a, b in pairwise(key_times)):
        raise NotIndexedError
    return PacketIndex(packets, times, keys, key_times)


def _time(packet: PacketInfo) -> int:
    """The presentation timestamp of a packet; raises NotIndexedError if it has none."""
    if packet.pts is None:
        raise NotIndexedError
    return packet.pts


def _frames_by_index(source: Source, indices: Sequence[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decodes from the key frame before each wanted frame; yields (index, frame), ascending, with gaps.

    Raises:
        NotIndexedError: timestamps are missing, repeated or differ from the decoded ones, or a frame is damaged.
    """
    with _open_indexed(source) as (index_table, packets, decoder):
        if indices[-1] >= len(index_table.times):
            raise out_of_range(indices[-1], len(index_table.times))
        position = expected = start_time = 0  # next packet to decode, number of the next frame to come out
        ready: list[av.VideoFrame] = []
        for index in indices:
            nearest = bisect_right(index_table.key_times, index_table.times[index]) - 1
            if nearest < 0:
                raise NotIndexedError
            if index_table.keys[nearest] >= position:
                if position > 0:
                    decoder.flush_buffers()
                deque(islice(packets, index_table.keys[nearest] - position), maxlen=0)  # skipped
                position, start_time, ready = index_table.keys[nearest], index_table.key_times[nearest], []
                expected = bisect_left(index_table.times, start_time)
            while expected <= index:
                while not ready:
                    if position > len(index_table.packets):
                        raise NotIndexedError
                    ready = list(decoder.decode(next(packets, None)))
                    position += 1
                frame = ready.pop(0)
                if frame.pts is not None and frame.pts < start_time:
                    continue  # open group of pictures: the frame follows the key frame and is shown before it
                if frame.pts != index_table.times[expected] or frame.is_corrupt:
                    raise NotIndexedError
                yield expected, frame
                expected += 1


@contextmanager
def _open_indexed(source: Source) -> "Iterator[tuple[PacketIndex, Iterator[av.Packet[Any]], av.VideoCodecContext]]":
    """The index of a video, its packets, and a decoder; the packets of a path are read again, not kept in memory."""
    with ExitStack() as stack:
        container, stream = stack.enter_context(open_video(source))
        if isinstance(source, bytes):
            index = read_index(container, stream)
            yield index, iter(index.packets), stream.codec_context
            return
        index = read_index(container, stream, lambda packet: None)
        container, stream = stack.enter_context(open_video(source))
        yield index, (packet for packet in container.demux(stream) if packet.size), stream.codec_context
