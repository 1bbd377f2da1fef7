"""What a video file is, by its packets: frames, rate, size; and what is wrong with it, as a `DecodeError`.

`datamodules.decoding` offers all of this too: import it from there.
"""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, NamedTuple

import av
import av.container
import av.video
import numpy as np
import numpy.typing as npt

UNREADABLE = "unreadable"  # not a container that FFmpeg knows, or no decoder for its codec
ABSENT = "absent"  # no such file
NO_VIDEO_STREAM = "no video stream"
NO_FRAMES = "no frames"
TRUNCATED = "truncated"  # the file's header promises more than the file holds
DAMAGED = "damaged"  # packets or frames that do not decode
TOO_SHORT = "too short"  # nothing is left after trimming
TOO_LARGE = "too large"  # more frames than any video that this is for: a header that lies
OUT_OF_RANGE = "out of range"  # a frame index that the video does not have
REASONS = (UNREADABLE, ABSENT, NO_VIDEO_STREAM, NO_FRAMES, TRUNCATED, DAMAGED, TOO_SHORT, TOO_LARGE, OUT_OF_RANGE)

# What a few damaged bytes claim must not be allocated.
MAX_PIXELS = 2**26  # of a frame, twice 8K; the decoder refuses larger ones, which counts as damaged
MAX_FRAMES = 2**22  # of a video: 19 hours at 60 a second

LIMITS = {"max_pixels": str(MAX_PIXELS)}

Source = bytes | str | os.PathLike[str]


class DecodeError(ValueError):
    """A video that cannot be decoded.

    Attributes:
        reason: one of `REASONS`, to group by; the message says the rest.
    """

    def __init__(self, message: str, reason: str = DAMAGED) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["DecodeError"], tuple[str, str]]:  # keeps `reason` between processes
        return type(self), (str(self), self.reason)


class VideoInfo(NamedTuple):
    """What a video is, without its frames.

    Attributes:
        num_frames: frames that decoding gives.
        fps: frames per second on average.
        width: pixels, after rotation.
        height: pixels, after rotation.
        duration_s: from the first frame's start to the last one's end, in seconds.
        rotation: degrees counterclockwise that decoding turns the stored frames by: 0, 90, 180 or 270.
        codec: FFmpeg's name of the decoder, such as `h264`.
        variable_rate: the frames are not evenly spaced, to half of a frame's time: `read_frame_times` says when each is
            shown, and `fps` is an average.
        pixel_aspect: width of a pixel through its height, after rotation; 1.0 is square.
        mirrored: decoding mirrors the stored frames left to right, before it turns them.
        other_streams: further video streams of the file, cover pictures not counted, which are not read.
    """

    num_frames: int
    fps: float
    width: int
    height: int
    duration_s: float
    rotation: int
    codec: str
    variable_rate: bool = False
    pixel_aspect: float = 1.0
    mirrored: bool = False
    other_streams: int = 0


class PacketTable(NamedTuple):
    """What the packets of a video stream say, before any decoding.

    Attributes:
        num_frames: frames to expect: packets that the edit list and the codec do not hide.
        pts: their presentation times in presentation order, in `time_base`, or empty where the file gives none.
        time_base: seconds.
        rate: average frames per second.
        duration: seconds, from the first frame's start to the last one's end.
        flaw: empty, or why the file cannot be whole (`TRUNCATED`: the header promises more packets or time).
    """

    num_frames: int
    pts: list[int]
    time_base: Fraction
    rate: Fraction
    duration: Fraction
    flaw: str


@contextmanager
def library_errors(what: str, reason: str = DAMAGED) -> Iterator[None]:
    """Turns whatever a decoding library raises into a `DecodeError` that says `what` failed and the cause."""
    try:
        yield
    except DecodeError:
        raise
    except Exception as error:  # the libraries raise their own types, OSError, ValueError, UnicodeDecodeError, ...
        raise DecodeError(f"{what}: {type(error).__name__}: {error}", reason) from error


@contextmanager
def open_video(source: Source) -> Iterator[tuple[av.container.InputContainer, av.video.VideoStream]]:
    """Opens a video with PyAV, one decoder thread; yields the container and its video stream.

    Raises:
        DecodeError: `ABSENT`, `UNREADABLE` or `NO_VIDEO_STREAM` (cover pictures do not count).
    """
    if not isinstance(source, bytes) and not os.path.isfile(source):  # noqa: PTH113 (any path-like)
        raise DecodeError(f"{os.fspath(source)}: no such file", ABSENT)
    if (len(source) if isinstance(source, bytes) else os.path.getsize(source)) == 0:  # noqa: PTH202
        raise DecodeError("the file is empty, 0 bytes", UNREADABLE)
    with library_errors("the video cannot be opened", UNREADABLE):
        file = io.BytesIO(source) if isinstance(source, bytes) else os.fspath(source)
        # naming the usual format spares trying all the others: 0.6 of 2 ms
        known = "mp4" if isinstance(source, bytes) and source[4:8] == b"ftyp" else None
        container = av.open(file, mode="r", format=known, options=LIMITS, metadata_errors="replace")
    with container:
        with library_errors("the streams cannot be read", UNREADABLE):
            streams = [
                stream
                for stream in container.streams.video
                if not stream.disposition & av.stream.Disposition.attached_pic
            ]
            if not streams:
                raise DecodeError("the file has no video stream", NO_VIDEO_STREAM)
            if streams[0].codec_context is None:
                raise DecodeError("the video stream's codec is not known to FFmpeg", UNREADABLE)
            streams[0].codec_context.options = LIMITS
            streams[0].thread_type = "NONE"
            streams[0].thread_count = 1
        yield container, streams[0]


def read_packet_table(source: Source) -> PacketTable:
    """Counts and times the frames of a video by its packets, without decoding any.

    Raises:
        DecodeError: the file cannot be opened or its packets cannot be read.
    """
    with open_video(source) as (container, stream), library_errors("the packets cannot be read"):
        count, seen, pts, last_duration, corrupt = 0, 0, [], 0, False
        for packet in container.demux(stream):
            if packet.size == 0:
                continue
            seen += 1
            if seen > MAX_FRAMES:
                raise DecodeError(f"it has more than {MAX_FRAMES} frames", TOO_LARGE)
            corrupt = corrupt or packet.is_corrupt
            if hidden(packet, stream.codec_context.name):
                continue
            count += 1
            last_duration = packet.duration or last_duration
            if packet.pts is not None:
                pts.append(packet.pts)
        time_base = stream.time_base or Fraction(1, 1)
        # AVI counts frames instead of timing them, and what FFmpeg makes of that is wrong around B-frames.
        pts = sorted(pts) if len(pts) == count and container.format.name != "avi" else []
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        if len(pts) > 1 and pts[-1] > pts[0]:
            duration = (pts[-1] - pts[0] + (last_duration or (pts[-1] - pts[0]) / (count - 1))) * time_base
            duration = Fraction(duration)
            if abs(float(rate * duration) - count) >= 1:  # the header's rate is not what the packets do
                rate = (count / duration).limit_denominator(1001)
            if rate <= 0:
                raise DecodeError(f"its {count} frames claim to last {float(duration):.0f} s", DAMAGED)
        else:
            duration = count / rate
        end = max(float(duration), float((pts[-1] + last_duration) * time_base) if pts else 0.0)
        flaw = _flaw(container, stream, seen, end, corrupt)
    return PacketTable(count, pts, time_base, Fraction(rate), Fraction(duration), flaw)


def read_frame_times(source: Source) -> npt.NDArray[np.float64]:
    """When each frame of a video is shown: float64 (F,), seconds from the first one, ascending, in decoding order.

    Raises:
        DecodeError: the video cannot be opened, or its packets cannot be read.
    """
    table = read_packet_table(source)
    if not table.pts:
        return np.arange(table.num_frames) / float(table.rate)
    times = np.array(table.pts, np.float64) * float(table.time_base)
    return times - times[:1]


def hidden(packet: "av.Packet[Any]", codec: str) -> bool:
    """Whether a packet gives no frame: outside the edit list, or a VP8 frame for reference only (RFC 6386, 9.1)."""
    return packet.is_discard or (codec in ("vp8", "libvpx") and not memoryview(packet)[0] & 0x10)


def _flaw(
    container: av.container.InputContainer, stream: av.video.VideoStream, seen: int, end: float, corrupt: bool
) -> str:
    """Why the file cannot be whole, or an empty string: by sample tables (mp4, mov) or the header's duration."""
    name = container.format.name
    if corrupt:
        return "its last packets are cut off"
    if "mp4" in name and seen < len(stream.index_entries):
        return f"its header lists {len(stream.index_entries)} packets and the file holds {seen}"
    declared = None
    if name == "avi" and stream.duration and stream.time_base:
        declared = float(stream.duration * stream.time_base)
    elif "matroska" in name and container.duration:
        declared = container.duration / av.time_base
    if declared is not None and declared - end > max(1.0, 0.1 * declared):
        return f"its header promises {declared:.1f} s and the file holds {end:.1f} s"
    return ""


def probe(data: Source) -> VideoInfo:
    """Reads what a video is: its packets are counted, and one frame is decoded for size and rotation.

    Args:
        data: the bytes of a video file, or its path.

    Raises:
        DecodeError: the file cannot be opened, has no video stream or no frame.
    """
    table = read_packet_table(data)
    with open_video(data) as (container, stream), library_errors("the first frame does not decode"):
        frame = next(container.decode(stream), None)
        if frame is None or table.num_frames == 0:
            raise DecodeError("the video has no frames", NO_FRAMES)
        turn, codec = quarter_turns(frame), stream.codec_context.name
        width, height = (frame.height, frame.width) if turn % 2 else (frame.width, frame.height)
    return VideoInfo(table.num_frames, float(table.rate), width, height, float(table.duration), 90 * turn, codec)


def quarter_turns(frame: av.VideoFrame) -> int:
    """Quarter turns counterclockwise, 0 to 3, that show a decoded frame upright: `numpy.rot90`'s k."""
    return round(frame.rotation / 90) % 4


def iterate_frames(source: Source) -> Iterator[av.VideoFrame]:
    """Decodes every frame in presentation order, one at a time, as stored (see `quarter_turns`).

    Raises:
        DecodeError: the video cannot be opened, or a packet or frame does not decode.
    """
    with open_video(source) as (container, stream), library_errors("a frame does not decode"):
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise DecodeError("a frame is damaged: the decoder marked it corrupt")
            yield frame
