"""Opening of video files with PyAV, and decoding of all frames in order; failures are a `DecodeError`.

Other packages import these names from `datamodules.video.decoding`.
"""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import av
import av.container
import av.video

from datamodules.video.video_streams import candidate_streams, choose_stream, count_up_to_two_packets

UNREADABLE = "unreadable"  # not a container that FFmpeg supports, or no decoder for its codec
ABSENT = "absent"  # no such file
NO_VIDEO_STREAM = "no video stream"
NO_FRAMES = "no frames"
TRUNCATED = "truncated"  # the file is shorter than its header says
DAMAGED = "damaged"  # packets or frames that do not decode
TOO_SHORT = "too short"  # no frame is left after trimming
TOO_LARGE = "too large"  # more than `MAX_FRAMES` frames, most likely a corrupt header
OUT_OF_RANGE = "out of range"  # a frame index, or a segment, that the video does not have
FRAME_NUMBERS = "frame numbers"  # a folder of images whose numbers have a gap, repeat, or belong to several series
MIXED_SIZES = "mixed sizes"  # a folder of images of different sizes
REASONS = (
    *(UNREADABLE, ABSENT, NO_VIDEO_STREAM, NO_FRAMES, TRUNCATED, DAMAGED, TOO_SHORT, TOO_LARGE, OUT_OF_RANGE),
    *(FRAME_NUMBERS, MIXED_SIZES),
)

# Limits, so that a few damaged bytes in a header do not cause huge allocations.
MAX_PIXELS = 2**26  # per frame, twice 8K; the decoder rejects larger frames, which counts as damaged
MAX_FRAMES = 2**22  # per video: 19 hours at 60 frames per second

LIMITS = {"max_pixels": str(MAX_PIXELS)}

# Demuxers that open other files or addresses than the given one: playlists, sessions, filters, patterns.
_INDIRECT_FORMATS = {"applehttp", "concat", "dash", "hls", "image2", "imf", "lavfi", "rtp", "rtsp", "sap", "sdp"}
_INDIRECT_FORMATS |= {"avisynth", "vapoursynth", "webm_dash_manifest"}
SINGLE_FILE_FORMATS = {"format_whitelist": ",".join(sorted(av.formats_available - _INDIRECT_FORMATS))}

Source = bytes | str | os.PathLike[str]


class DecodeError(ValueError):
    """A video that cannot be decoded.

    Attributes:
        reason: one of `REASONS`, for grouping errors; the message has the details.
    """

    def __init__(self, message: str, reason: str = DAMAGED) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["DecodeError"], tuple[str, str]]:  # keeps `reason` between processes
        return type(self), (str(self), self.reason)


@contextmanager
def library_errors(description: str, reason: str = DAMAGED) -> Iterator[None]:
    """Context manager that turns any exception of a decoding library into a `DecodeError`: what failed, and why."""
    try:
        yield
    except DecodeError:
        raise
    except Exception as error:  # the libraries raise their own types, OSError, ValueError, UnicodeDecodeError, ...
        raise DecodeError(f"{description}: {type(error).__name__}: {error}", reason) from error


@contextmanager
def open_video(source: Source) -> Iterator[tuple[av.container.InputContainer, av.video.VideoStream]]:
    """Opens a video with PyAV and one decoder thread; yields the container and its video stream.

    Raises:
        DecodeError: `ABSENT`, `UNREADABLE` or `NO_VIDEO_STREAM` (cover pictures do not count).
    """
    if not isinstance(source, bytes) and not os.path.isfile(source):  # noqa: PTH113 (any path-like)
        problem = "a folder, not a file" if os.path.isdir(source) else "no such file"  # noqa: PTH112
        raise DecodeError(f"{os.fspath(source)}: {problem}", ABSENT)
    if (len(source) if isinstance(source, bytes) else os.path.getsize(source)) == 0:  # noqa: PTH202
        raise DecodeError("the file is empty, 0 bytes", UNREADABLE)
    with _open_container(source) as container:
        with library_errors("the streams cannot be read", UNREADABLE):
            streams = candidate_streams(container)
            if not streams:
                raise DecodeError("the file has no video stream", NO_VIDEO_STREAM)
            stream = choose_stream(streams, lambda: _count_up_to_two_packets(source))
            if stream.codec_context is None:
                raise DecodeError("the video stream's codec is not known to FFmpeg", UNREADABLE)
            stream.codec_context.options = LIMITS
            stream.thread_type = "NONE"
            stream.thread_count = 1
        yield container, stream


def _open_container(source: Source) -> av.container.InputContainer:
    with library_errors("the video cannot be opened", UNREADABLE):
        if isinstance(source, bytes):
            # Naming the usual format saves FFmpeg from trying all of them: 0.6 of 2 ms.
            format_name = "mp4" if source[4:8] == b"ftyp" else None
            options = LIMITS | SINGLE_FILE_FORMATS | {"protocol_whitelist": "data"}
            return av.open(io.BytesIO(source), mode="r", format=format_name, options=options, metadata_errors="replace")
        options = LIMITS | SINGLE_FILE_FORMATS | {"protocol_whitelist": "file"}
        # The protocol is given because FFmpeg would take the part of a file name before a colon for one.
        return av.open(f"file:{os.fspath(source)}", mode="r", options=options, metadata_errors="replace")


def _count_up_to_two_packets(source: Source) -> dict[int, int]:
    with _open_container(source) as container:
        return count_up_to_two_packets(container, candidate_streams(container))


def count_other_streams(source: Source) -> int:
    """Number of video streams in a file besides the one that is read, without cover pictures.

    Raises:
        DecodeError: `ABSENT`, `UNREADABLE` or `NO_VIDEO_STREAM`.
    """
    with open_video(source) as (container, _):
        return len(candidate_streams(container)) - 1


def iterate_frames(source: Source) -> Iterator[av.VideoFrame]:
    """Decodes all frames in presentation order, one at a time, as stored (see `orientation_of`).

    A file that begins in the middle of a group of pictures, as recorders and cutters leave them, begins with its first
    decodable frame: errors before the first key frame are ignored, as players do.

    Raises:
        DecodeError: the video cannot be opened, or a packet or frame does not decode.
    """
    with open_video(source) as (container, stream), library_errors("a frame does not decode"):
        yield from iterate_open(container, stream)


def iterate_open(container: av.container.InputContainer, stream: av.video.VideoStream) -> Iterator[av.VideoFrame]:
    """Decodes all frames of a video that was just opened, as `iterate_frames`; FFmpeg's exceptions pass through."""
    has_key_frame = False
    for packet in container.demux(stream):
        has_key_frame = has_key_frame or packet.is_keyframe
        # FFmpeg's decoders take an empty packet for the end of the stream, so those in the middle are skipped.
        if packet.size:
            yield from _decode(packet, has_key_frame)
    yield from _refuse_corrupt(packet.decode())  # the last packet is empty: it flushes the decoder


def _decode(packet: "av.Packet[av.video.VideoStream]", has_key_frame: bool) -> Iterator[av.VideoFrame]:
    try:
        frames = packet.decode()
    except av.InvalidDataError:
        if has_key_frame:
            raise
        return
    yield from _refuse_corrupt(frames)


def _refuse_corrupt(frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    for frame in frames:
        if frame.is_corrupt:
            raise DecodeError("a frame is damaged: the decoder marked it corrupt")
        yield frame
