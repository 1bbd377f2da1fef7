"""Frame-exact decoding: video bytes and frame indices to uint8 frames with PyAV, decord or torchcodec.

In every decoder, index i is the i-th frame of a decode from start to end, after the file's edit list, turned and
mirrored by the file's display matrix (to the nearest quarter turn). Bad input raises a `DecodeError`. Each decode uses
one thread: the data loader workers are the parallelism. PyAV is the default. decord is as fast, but some damaged files
crash its process, so use it only for shards that this project packed. torchcodec is the fastest and needs FFmpeg's
shared libraries.
"""

import functools
import importlib.metadata
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np

from datamodules.video.exact_seeking import seeks_exactly
from datamodules.video.mp4_writer import encode_frames
from datamodules.video.orientation import UPRIGHT, Orientation, orientation_of
from datamodules.video.probing import VideoInfo, probe, read_frame_times
from datamodules.video.pyav_decoder import Frames, chunk_length, out_of_range, pyav_chunks
from datamodules.video.video_container import (
    ABSENT,
    DAMAGED,
    NO_FRAMES,
    NO_VIDEO_STREAM,
    OUT_OF_RANGE,
    REASONS,
    TOO_LARGE,
    TOO_SHORT,
    TRUNCATED,
    UNREADABLE,
    DecodeError,
    Source,
    count_other_streams,
    iterate_frames,
    library_errors,
)

Decoder = Literal["auto", "pyav", "decord", "torchcodec"]

__all__ = [
    "ABSENT",
    "CHUNK_BYTES",
    "DAMAGED",
    "DECODERS",
    "NO_FRAMES",
    "NO_VIDEO_STREAM",
    "OUT_OF_RANGE",
    "REASONS",
    "TOO_LARGE",
    "TOO_SHORT",
    "TRUNCATED",
    "UNREADABLE",
    "UPRIGHT",
    "DecodeError",
    "Orientation",
    "Source",
    "VideoInfo",
    "count_other_streams",
    "decode_frames",
    "describe_decoder",
    "iterate_frame_chunks",
    "iterate_frames",
    "orientation_of",
    "probe",
    "read_frame_times",
    "resolve_decoder",
]

CHUNK_BYTES = 2**24  # size of the decoded frames that are in memory at once when a video is decoded in chunks
DECODERS = ("pyav", "decord", "torchcodec")

_log = logging.getLogger(__name__)


def decode_frames(data: Source, indices: Sequence[int], decoder: str = "auto") -> Frames:
    """Decodes the frames at the given indices, and as few others as possible.

    Args:
        data: the bytes of a video file, or its path.
        indices: frame numbers in presentation order, from 0; they may repeat and come in any order.
        decoder: `auto`, `pyav`, `decord` or `torchcodec`; see `resolve_decoder`.

    Returns:
        uint8 (T, H, W, 3), RGB, upright; frame t is frame `indices[t]` of the video.

    Raises:
        DecodeError: the video does not decode, or an index is out of range (`reason` is `OUT_OF_RANGE`).
        ValueError: `indices` is empty, or the decoder is unknown or not installed.
    """
    numbers = [int(index) for index in indices]
    unique = sorted(set(numbers))
    [(_, frames)] = iterate_frame_chunks(data, unique, decoder, None)
    return frames if unique == numbers else frames[np.searchsorted(unique, numbers)]


def iterate_frame_chunks(
    data: Source, indices: Sequence[int], decoder: str = "auto", chunk_bytes: int | None = CHUNK_BYTES
) -> Iterator[tuple[Sequence[int], Frames]]:
    """Decodes the frames at the given indices in one pass, one chunk in memory at a time.

    Args:
        data: the bytes of a video file, or its path; a file given by path is not loaded into memory.
        indices: frame numbers in presentation order, ascending and distinct.
        decoder: `auto`, `pyav`, `decord` or `torchcodec`; see `resolve_decoder`.
        chunk_bytes: maximum size of the frames of a chunk, which has at least one frame; None: all in one chunk.

    Yields:
        The next indices and their frames, uint8 (n, H, W, 3), RGB, upright.

    Raises:
        DecodeError: the video does not decode, or an index is out of range (`reason` is `OUT_OF_RANGE`). Chunks before
            the failure have been yielded already.
        ValueError: `indices` is empty, or the decoder is unknown or not installed.
    """
    if not len(indices):
        raise ValueError("indices is empty: ask for at least one frame")
    name = resolve_decoder(decoder)
    if indices[0] < 0:
        raise out_of_range(indices[0])
    done = 0
    with library_errors(f"{name} cannot decode the video"):
        for frames in _ADAPTERS[name](data, indices, chunk_bytes):
            yield indices[done : done + len(frames)], frames
            done += len(frames)


@functools.cache
def resolve_decoder(name: str) -> str:
    """The name of the decoder to use: `auto` is torchcodec where it imports and decodes, else PyAV.

    Raises:
        ValueError: no such decoder, or it is not installed.
    """
    if name == "auto":
        return "torchcodec" if _import_error("torchcodec") is None and _torchcodec_works() else "pyav"
    if name not in DECODERS:
        raise ValueError(f"decoder={name!r}: must be one of auto, {', '.join(DECODERS)}")
    cause = _import_error(name)
    if cause is not None:
        raise ValueError(f"decoder={name!r}: it does not import here ({cause}); install it, or use decoder='pyav'")
    return name


def describe_decoder(name: str) -> str:
    """The decoder and its version as recorded in outputs, such as `pyav 18.1.0`."""
    resolved = resolve_decoder(name)
    return f"{resolved} {importlib.metadata.version('av' if resolved == 'pyav' else resolved)}"


def _import_error(name: str) -> str | None:
    """The reason why a decoder cannot be imported, in one line, or None."""
    try:
        if name == "decord":
            import decord  # noqa: F401
        elif name == "torchcodec":
            import torchcodec.decoders  # noqa: F401
    except Exception as error:  # torchcodec raises RuntimeError, over many lines, where FFmpeg's libraries are missing
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return None


def _torchcodec_works() -> bool:
    """Whether torchcodec decodes two frames that were just encoded: it may import, and lack a codec."""
    try:
        list(_decode_torchcodec(encode_frames([np.zeros((32, 32, 3), np.uint8)] * 2, 25.0), [0, 1], None))
    except Exception as error:
        _log.warning("torchcodec imports but does not decode, PyAV is used: %s", error)
        return False
    return True


@functools.cache
def _log_substitution(name: str) -> None:
    """Logs once per process that PyAV replaces the chosen decoder for some files."""
    _log.warning("some of these files are read with pyav, because %s would fail or return wrong frames", name)


_Adapter = Callable[[Source, Sequence[int], int | None], Iterator[Frames]]


def _fall_back_to_pyav(*unsupported_codecs: str) -> Callable[[_Adapter], _Adapter]:
    """Decorator of a decoder: files that it does not seek exactly, or of `unsupported_codecs`, are decoded by PyAV.

    decord 0.6 and torchcodec 0.13 silently return wrong frames after seeks into files with open groups of pictures,
    with intra refresh, with an edit list that cuts frames away, and into AVI and transport streams with B-frames.
    """

    def guard(adapter: _Adapter) -> _Adapter:
        @functools.wraps(adapter)
        def guarded(data: Source, indices: Sequence[int], chunk_bytes: int | None) -> Iterator[Frames]:
            if seeks_exactly(data, unsupported_codecs):
                return adapter(data, indices, chunk_bytes)
            _log_substitution(adapter.__name__.removeprefix("_decode_"))
            return pyav_chunks(data, indices, chunk_bytes)

        return guarded

    return guard


@_fall_back_to_pyav("av1")
def _decode_decord(data: Source, indices: Sequence[int], chunk_bytes: int | None) -> Iterator[Frames]:
    import decord

    file = io.BytesIO(data) if isinstance(data, bytes) else os.fspath(data)
    reader = decord.VideoReader(file, ctx=decord.cpu(0), num_threads=1)
    return _in_chunks(lambda part: reader.get_batch(part).asnumpy(), len(reader), indices, chunk_bytes)


@_fall_back_to_pyav()
def _decode_torchcodec(data: Source, indices: Sequence[int], chunk_bytes: int | None) -> Iterator[Frames]:
    from torchcodec.decoders import VideoDecoder

    # "exact" scans the file for its frames' timestamps; "approximate" would compute them from the header's frame rate.
    source = data if isinstance(data, bytes) else os.fspath(data)
    reader = VideoDecoder(source, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    return _in_chunks(lambda part: reader.get_frames_at(indices=part).data.numpy(), len(reader), indices, chunk_bytes)


def _in_chunks(
    read: Callable[[list[int]], Frames], count: int, indices: Sequence[int], chunk_bytes: int | None
) -> Iterator[Frames]:
    """Reads frames in chunks from a reader of `count` frames; the first of several is one frame, for its size."""
    if indices[-1] >= count:
        raise out_of_range(indices[-1], count)
    done, size = 0, len(indices) if chunk_bytes is None else 1
    while done < len(indices):
        frames = read(list(indices[done : done + size]))
        yield frames
        done += len(frames)
        size = chunk_length(frames.shape[1:3], len(indices) - done, chunk_bytes)


_ADAPTERS: dict[str, _Adapter] = {
    "pyav": pyav_chunks,
    "decord": _decode_decord,
    "torchcodec": _decode_torchcodec,
}
