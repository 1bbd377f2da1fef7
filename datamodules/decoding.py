"""Video bytes and frame indices to uint8 frames, by one of several decoders; bad input is a `DecodeError`.

In every decoder index i means the i-th frame that decoding from start to end gives, after the file's edit list, turned
and mirrored by the file's display matrix (to the nearest quarter turn). One thread decodes: the workers of the
DataLoader are the parallelism. PyAV is the default; decord is as fast but takes the process down on some damaged files,
so it is for shards that we packed; torchcodec is the fastest and needs FFmpeg's shared libraries.
"""

import functools
import importlib.metadata
import io
import logging
from collections.abc import Callable, Sequence

import numpy as np

from datamodules.orientation import UPRIGHT, Orientation, orientation_of
from datamodules.plain_files import plainly_indexed
from datamodules.probing import VideoInfo, probe, read_frame_times
from datamodules.seeking import Frames, decode_pyav, out_of_range
from datamodules.video_container import (
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
    iterate_frames,
    library_errors,
)

__all__ = [
    "ABSENT",
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
    "decode_frames",
    "describe_decoder",
    "iterate_frames",
    "orientation_of",
    "probe",
    "read_frame_times",
    "resolve_decoder",
]

DECODERS = ("pyav", "decord", "torchcodec")

_log = logging.getLogger(__name__)


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
        raise out_of_range(min(numbers))
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
        return "torchcodec" if _missing("torchcodec") is None and _torchcodec_works() else "pyav"
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


@functools.cache
def _say_substitution(name: str) -> None:
    """Says it once in each process."""
    _log.warning("some of these files are read with pyav, because %s would fail or return wrong frames", name)


_Adapter = Callable[[bytes, list[int]], Frames]


def _only_where_exact(*lacking: str) -> Callable[[_Adapter], _Adapter]:
    """Gives a decoder the files whose frames it is known to find, and PyAV the others, as those of codecs it lacks.

    decord 0.6 and torchcodec 0.13 return other frames, without a word, after seeks into files with open groups of
    pictures, intra refresh, an edit list that cuts frames away, and in AVI and transport streams with B-frames.
    """

    def guard(adapter: _Adapter) -> _Adapter:
        @functools.wraps(adapter)
        def guarded(data: bytes, indices: list[int]) -> Frames:
            if plainly_indexed(data, lacking):
                return adapter(data, indices)
            _say_substitution(adapter.__name__.removeprefix("_decode_"))
            return decode_pyav(data, indices)

        return guarded

    return guard


@_only_where_exact("av1")
def _decode_decord(data: bytes, indices: list[int]) -> Frames:
    import decord

    reader = decord.VideoReader(io.BytesIO(data), ctx=decord.cpu(0), num_threads=1)
    if indices[-1] >= len(reader):
        raise out_of_range(indices[-1], len(reader))
    frames: Frames = reader.get_batch(indices).asnumpy()
    return frames


@_only_where_exact()
def _decode_torchcodec(data: bytes, indices: list[int]) -> Frames:
    from torchcodec.decoders import VideoDecoder

    # Exact: the file is scanned for its frames' times; approximate would compute them from the header's rate.
    reader = VideoDecoder(data, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact")
    if indices[-1] >= len(reader):
        raise out_of_range(indices[-1], len(reader))
    frames: Frames = reader.get_frames_at(indices=indices).data.numpy()
    return frames


_ADAPTERS: dict[str, Callable[[bytes, list[int]], Frames]] = {
    "pyav": decode_pyav,
    "decord": _decode_decord,
    "torchcodec": _decode_torchcodec,
}
