"""Video bytes and frame indices to uint8 frames, by one of several decoders; bad input is a `DecodeError`.

In every decoder index i means the i-th frame in presentation order, after the file's edit list, turned upright by the
file's display matrix (to the nearest quarter turn; mirroring is not applied). One thread decodes: the workers of the
DataLoader are the parallelism. PyAV is the default; decord is as fast but takes the process down on some damaged files,
so it is for shards that we packed; torchcodec is the fastest and needs FFmpeg's shared libraries.
"""

import functools
import importlib.metadata
import io
import logging
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

from datamodules.probing import (
    ABSENT,
    DAMAGED,
    NO_FRAMES,
    NO_VIDEO_STREAM,
    OUT_OF_RANGE,
    REASONS,
    TOO_SHORT,
    TRUNCATED,
    UNREADABLE,
    DecodeError,
    Source,
    VideoInfo,
    hidden,
    iterate_frames,
    library_errors,
    open_video,
    probe,
    quarter_turns,
)

__all__ = [
    "ABSENT",
    "DAMAGED",
    "DECODERS",
    "NO_FRAMES",
    "NO_VIDEO_STREAM",
    "OUT_OF_RANGE",
    "REASONS",
    "TOO_SHORT",
    "TRUNCATED",
    "UNREADABLE",
    "DecodeError",
    "Source",
    "VideoInfo",
    "decode_frames",
    "describe_decoder",
    "iterate_frames",
    "probe",
    "quarter_turns",
    "resolve_decoder",
]

DECODERS = ("pyav", "decord", "torchcodec")

Frames = npt.NDArray[np.uint8]

_log = logging.getLogger(__name__)
_kept = threading.local()  # one converter a thread: setting one up costs as much as converting several frames


def decode_frames(data: bytes, indices: Sequence[int], decoder: str = "auto") -> Frames:
    """Decodes the frames at the given indices, and no more than that needs.

    Args:
        data: the bytes of a video file.
        indices: frame numbers in presentation order, from 0; they may repeat and come in any order.
        decoder: `auto`, `pyav`, `decord` or `torchcodec`; see `resolve_decoder`.

    Returns:
        uint8 (T, H, W, 3), RGB, frame t being `indices[t]`, upright.

    Raises:
        DecodeError: the video does not decode, or an index is out of range (`reason` is `OUT_OF_RANGE`).
        ValueError: `indices` is empty, or the decoder is unknown or not installed.
    """
    numbers = [int(index) for index in indices]
    if not numbers:
        raise ValueError("indices is empty: ask for at least one frame")
    name = resolve_decoder(decoder)
    if min(numbers) < 0:
        raise _out_of_range(min(numbers))
    unique = sorted(set(numbers))
    with library_errors(f"{name} cannot decode the video"):
        frames = _ADAPTERS[name](data, unique)
    return frames if unique == numbers else frames[np.searchsorted(unique, numbers)]


@functools.cache
def resolve_decoder(name: str) -> str:
    """The decoder that a setting stands for: `auto` is torchcodec where it imports and decodes, else PyAV.

    Raises:
        ValueError: no such decoder, or it is not installed.
    """
    if name == "auto":
        chosen = "torchcodec" if _missing("torchcodec") is None and _torchcodec_works() else "pyav"
        _log.info("decoder auto: %s", describe_decoder(chosen))
        return chosen
    if name not in DECODERS:
        raise ValueError(f"decoder={name!r}: must be one of auto, {', '.join(DECODERS)}")
    cause = _missing(name)
    if cause is not None:
        raise ValueError(f"decoder={name!r}: it does not import here ({cause}); install it, or use decoder='pyav'")
    return name


def describe_decoder(name: str) -> str:
    """The decoder and its version as recorded in outputs, such as `pyav 18.1.0`."""
    resolved = resolve_decoder(name)
    return f"{resolved} {importlib.metadata.version('av' if resolved == 'pyav' else resolved)}"


def _missing(name: str) -> str | None:
    """Why a decoder cannot be imported, in one line, or None."""
    try:
        if name == "decord":
            import decord  # noqa: F401
        elif name == "torchcodec":
            import torchcodec.decoders  # noqa: F401
    except Exception as error:  # torchcodec raises RuntimeError, over many lines, where FFmpeg's libraries are missing
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return None


def _torchcodec_works() -> bool:
    """Whether torchcodec decodes two frames that were just encoded: it may import and lack a codec."""
    from datamodules.encoding import encode_frames  # here, because encoding builds on this module

    try:
        _decode_torchcodec(encode_frames([np.zeros((32, 32, 3), np.uint8)] * 2, 25.0), [0, 1])
    except Exception as error:
        _log.warning("torchcodec imports but does not decode, PyAV is used: %s", error)
        return False
    return True


def _out_of_range(index: int, count: int | None = None) -> DecodeError:
    has = "" if count is None else f": the video has {count} frames"
    return DecodeError(f"frame {index} is out of range{has}", OUT_OF_RANGE)


def _decode_pyav(data: bytes, indices: list[int]) -> Frames:
    """By key frame where the container's times can be trusted, else by counting frames from the start."""
    try:
        return _collect(_indexed_frames(data, indices), indices)
    except (_NotIndexedError, av.FFmpegError):
        return _collect(enumerate(iterate_frames(data)), indices)


class _NotIndexedError(Exception):
    """The packets' times do not say which frame is which."""


def _collect(frames: Iterator[tuple[int, av.VideoFrame]], indices: list[int]) -> Frames:
    """Converts the wanted ones of ascending (index, frame) pairs, and stops at the last; uint8 (T, H, W, 3)."""
    result: Frames | None = None
    taken = count = 0
    for index, frame in frames:
        count = index + 1
        if index != indices[taken]:
            continue
        turn = quarter_turns(frame)
        if result is None:
            width, height = frame.width, frame.height
            shape = (width, height) if turn % 2 else (height, width)
            result = np.empty((len(indices), *shape, 3), np.uint8)
        pixels = _rgb(frame, width, height)  # a stream that changes its size is scaled to its first wanted frame
        result[taken] = np.rot90(pixels, turn) if turn else pixels
        taken += 1
        if taken == len(indices):
            return result
    raise _out_of_range(indices[taken], count)


def _rgb(frame: av.VideoFrame, width: int, height: int) -> Frames:
    """A view of the frame's pixels in RGB, uint8 (H, W, 3), as stored (not turned)."""
    converter: VideoReformatter | None = getattr(_kept, "converter", None)
    if converter is None:
        converter = _kept.converter = VideoReformatter()
    rgb = converter.reformat(frame, width=width, height=height, format="rgb24", threads=1)
    plane = rgb.planes[0]
    rows: Frames = np.frombuffer(memoryview(plane), np.uint8).reshape(
        -1, plane.line_size
    )  # rows are padded to the processor's liking
    return rows[:height, : 3 * width].reshape(height, width, 3)


def _indexed_frames(data: bytes, indices: list[int]) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decodes from the key frame before each wanted frame; yields (index, frame), ascending, with gaps.

    Raises:
        _NotIndexedError: times are missing, doubled or not what comes out, or a frame is damaged: count from the start.
    """
    with open_video(data) as (container, stream):
        context = stream.codec_context
        if not any(kind in container.format.name for kind in ("mp4", "matroska")):
            raise _NotIndexedError  # AVI has no presentation times, transport streams have no key frame marks to lean on
        packets = [packet for packet in container.demux(stream) if packet.size]
        times = sorted(_time(packet) for packet in packets if not hidden(packet, context.name))
        keys = [position for position, packet in enumerate(packets) if packet.is_keyframe]
        key_times = [_time(packets[position]) for position in keys]
        if not times or any(a >= b for a, b in pairwise(times)) or key_times != sorted(key_times):
            raise _NotIndexedError
        if indices[-1] >= len(times):
            raise _out_of_range(indices[-1], len(times))
        position, expected = -1, 0  # the next packet to decode, and the number of the next frame to come out
        ready: list[av.VideoFrame] = []
        for index in indices:
            nearest = bisect_right(key_times, times[index]) - 1
            if nearest < 0:
                raise _NotIndexedError
            if position < 0 or keys[nearest] >= position:
                if position > 0:
                    context.flush_buffers()
                position, ready = keys[nearest], []
                start_time = key_times[nearest]
                expected = bisect_left(times, start_time)
            while expected <= index:
                while not ready:
                    if position > len(packets):
                        raise _NotIndexedError
                    ready = list(context.decode(packets[position] if position < len(packets) else None))
                    position += 1
                frame = ready.pop(0)
                if frame.pts is not None and frame.pts < start_time:
                    continue  # open groups of pictures: frames after the key frame that are shown before it
                if frame.pts != times[expected] or frame.is_corrupt:
                    raise _NotIndexedError
                yield expected, frame
                expected += 1


def _time(packet: "av.Packet[Any]") -> int:
    if packet.pts is None:
        raise _NotIndexedError
    return packet.pts


def _decode_decord(data: bytes, indices: list[int]) -> Frames:
    import decord

    reader = decord.VideoReader(io.BytesIO(data), ctx=decord.cpu(0), num_threads=1)
    if indices[-1] >= len(reader):
        raise _out_of_range(indices[-1], len(reader))
    frames: Frames = reader.get_batch(indices).asnumpy()
    return frames


def _decode_torchcodec(data: bytes, indices: list[int]) -> Frames:
    from torchcodec.decoders import VideoDecoder

    # Exact: the file is scanned for its frames' times; approximate would compute them from the header's rate.
    reader = VideoDecoder(data, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    if indices[-1] >= len(reader):
        raise _out_of_range(indices[-1], len(reader))
    frames: Frames = reader.get_frames_at(indices=indices).data.numpy()
    return frames


_ADAPTERS: dict[str, Callable[[bytes, list[int]], Frames]] = {
    "pyav": _decode_pyav,
    "decord": _decode_decord,
    "torchcodec": _decode_torchcodec,
}
