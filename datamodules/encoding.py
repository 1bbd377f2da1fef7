"""Videos encoded for training: every frame decoded once, scaled, given a constant rate, encoded once a rendition.

Random clips of such files decode several times faster than those of videos encoded for the web, at about the same
size. How the frames are encoded is in `datamodules.mp4_writer`, whose names are here too.
"""

import math
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from datamodules.frame_hashes import FrameHasher
from datamodules.mp4_writer import EncodeProfile, Mp4Writer, as_rate, encode_frames, target_size
from datamodules.probing import (
    DAMAGED,
    MAX_FRAMES,
    NO_FRAMES,
    TOO_LARGE,
    TOO_SHORT,
    TRUNCATED,
    DecodeError,
    PacketTable,
    VideoInfo,
    iterate_frames,
    probe,
    quarter_turns,
    read_packet_table,
)

__all__ = [
    "EncodeProfile",
    "EncodedVideo",
    "SourceNotes",
    "encode_frames",
    "inspect",
    "target_size",
    "transcode",
    "transcode_renditions",
]

TRIM_MARGIN_S = 1.0  # a file at most this much longer than its annotated clip is that clip, cut already


class SourceNotes(NamedTuple):
    """What of a source video a person should be told although it was packed.

    Attributes:
        variable_rate: its frames are not evenly spaced in time.
        clock_jumps: places where its clock restarts or jumps, which were closed.
        other_streams: further video streams in the file, which were not packed.
        frames_dropped: frames that the result does not show, because a lower constant rate was asked for.
        frames_repeated: frames of the result that show the same source frame as the one before.
        stretched_pixels: its pixels are not square.
    """

    variable_rate: bool = False
    clock_jumps: int = 0
    other_streams: int = 0
    frames_dropped: int = 0
    frames_repeated: int = 0
    stretched_pixels: bool = False


class EncodedVideo(NamedTuple):
    """The bytes of a video file whose frames were all decoded once, what they are, and hashes of some of them."""

    data: bytes
    info: VideoInfo
    frame_hashes: tuple[int, ...] = ()
    notes: SourceNotes = SourceNotes()


class _Rendition:
    """One encoding of a video whose frames go by: scaled, shown at a constant rate, hashed.

    Args:
        first: the first frame that is shown, at time 0.
        rate: frames per second of the video that goes by.
        duration_s: of the video, as far as known.
        profile: how to encode.
    """

    def __init__(self, first: av.VideoFrame, rate: Fraction, duration_s: float, profile: EncodeProfile) -> None:
        size = (first.height, first.width) if quarter_turns(first) % 2 else (first.width, first.height)
        self._width, self._height = target_size(*size, profile.short_side)
        self._rate = _rate(rate, profile)
        self._converter = VideoReformatter()
        self._hasher = FrameHasher(duration_s)
        self._writer = Mp4Writer(self._width, self._height, self._rate, profile)
        self._writer.take_color_from(first)
        self._pending: av.VideoFrame | None = None
        self._last_time = Fraction(0)

    def take(self, frame: av.VideoFrame, time: Fraction) -> None:
        """The next frame, shown from `time` (seconds) until the one after it."""
        self._show_until(time)
        self._last_time = time
        self._pending = _scale(self._converter, frame, self._width, self._height, quarter_turns(frame))

    def finish(self, end: Fraction) -> EncodedVideo:
        """The video, whose last frame is shown until `end` (seconds)."""
        self._show_until(max(end, self._last_time + Fraction(1, 2) / self._rate))
        if self._writer.num_frames == 0 and self._pending is not None:  # one frame, asked for at a low rate
            self._write(self._pending)
        count = self._writer.num_frames
        seconds = float(count / self._rate)
        info = VideoInfo(count, float(self._rate), self._width, self._height, seconds, 0, "h264")
        return EncodedVideo(self._writer.finish(), info, self._hasher.hashes())

    def _show_until(self, time: Fraction) -> None:
        """Show the pending frame for every output time whose middle comes before `time`."""
        while self._pending is not None and (self._writer.num_frames + Fraction(1, 2)) / self._rate <= time:
            self._write(self._pending)

    def _write(self, frame: av.VideoFrame) -> None:
        self._hasher.offer(frame, float(self._writer.num_frames / self._rate))
        self._writer.write(frame)


def transcode(
    source: str | bytes, profile: EncodeProfile, time_start: float | None = None, time_end: float | None = None
) -> EncodedVideo:
    """One rendition of a video: `transcode_renditions` with one profile."""
    (video,) = transcode_renditions(source, (profile,), time_start, time_end)
    return video


def transcode_renditions(
    source: str | bytes,
    profiles: Sequence[EncodeProfile],
    time_start: float | None = None,
    time_end: float | None = None,
) -> list[EncodedVideo]:
    """Decodes every frame of a video once and encodes it for training, once a profile, without its sound.

    Rotation is applied, the short side scaled, and the frame rate made constant: frame i of the result shows the
    source at i / fps seconds (the frame nearest in time; a source with a variable rate is repeated or thinned to its
    average rate, or to `profile.fps`).

    Annotated times refer to the original video, while files are often cut already. So the file is trimmed to
    [time_start, time_end) only where it is longer than that by more than `TRIM_MARGIN_S` and reaches `time_end` (less
    the margin); otherwise it is kept whole. `time_start` alone always trims. Frames before the start are decoded too.

    A file counts as damaged, and is refused, where its header promises packets that are not there, where a packet or
    frame is marked corrupt or does not decode, or where fewer frames come out than the packets announce. Errors that
    the decoder conceals without a word are not seen.

    Args:
        source: the video's bytes or path.
        profiles: how to encode; at least one.
        time_start: seconds, or None.
        time_end: seconds, or None.

    Returns:
        A video a profile, in their order; each is the same as with its profile alone.

    Raises:
        DecodeError: with the `reason`; nothing partial is returned.
        ValueError: `time_start` and `time_end` are no span.
    """
    table = read_packet_table(source)
    if table.flaw:
        raise DecodeError(f"the video is truncated: {table.flaw}", TRUNCATED)
    start, end = _trim(table.duration, time_start, time_end)
    last = min(table.duration, Fraction(end)) if math.isfinite(end) else table.duration
    if (last - Fraction(start)) * max(_rate(table.rate, profile) for profile in profiles) > MAX_FRAMES:
        raise DecodeError(f"it claims to last {float(last):.0f} s, more than {MAX_FRAMES} frames", TOO_LARGE)
    offset = Fraction(start)
    renditions: list[_Rendition] = []
    for frame, time in _timed_frames(source, table, end):
        if time < offset and not math.isclose(time, offset, abs_tol=1e-6):
            continue
        if not renditions:
            offset = time
            renditions = [_Rendition(frame, table.rate, float(last - time), profile) for profile in profiles]
        for rendition in renditions:
            rendition.take(frame, time - offset)
    if not renditions:
        raise DecodeError(
            f"nothing is left from {start} s on: the video lasts {float(table.duration):.2f} s", TOO_SHORT
        )
    return [rendition.finish(last - offset) for rendition in renditions]


def _rate(rate: Fraction, profile: EncodeProfile) -> Fraction:
    """Frames per second that a video of `rate` is encoded at."""
    return as_rate(profile.fps) if profile.fps is not None else rate.limit_denominator(1001)


def _trim(duration: Fraction, start: float | None, end: float | None) -> tuple[float, float]:
    """The part of a file to keep, in seconds from its first frame; see `transcode_renditions`."""
    if start is not None and start < 0:
        raise ValueError(f"time_start={start}: must not be negative")
    if end is not None and end <= (start or 0.0):
        raise ValueError(f"time_end={end}: must be after time_start={start}")
    if start is None and end is None:
        return 0.0, math.inf
    start = start or 0.0
    if end is None:
        return start, math.inf
    whole_source = float(duration) > (end - start) + TRIM_MARGIN_S and float(duration) >= end - TRIM_MARGIN_S
    return (start, end) if whole_source else (0.0, math.inf)


def _timed_frames(source: str | bytes, table: PacketTable, end: float) -> Iterator[tuple[av.VideoFrame, Fraction]]:
    """Every frame up to `end` with its time in seconds from the first; raises where frames are missing."""
    count = 0
    first: int | None = None
    for frame in iterate_frames(source):
        if frame.pts is None or not table.pts:
            time = count / table.rate
        else:
            first = frame.pts if first is None else first
            time = (frame.pts - first) * table.time_base
        if time >= end:
            return
        count += 1
        yield frame, time
    if count == 0:
        raise DecodeError("the video has no frames", NO_FRAMES)
    if count < table.num_frames:
        raise DecodeError(f"only {count} of {table.num_frames} frames decode", DAMAGED)


def _scale(converter: VideoReformatter, frame: av.VideoFrame, width: int, height: int, turn: int) -> av.VideoFrame:
    """A frame as yuv420p of the given upright size, turned by `turn` quarters counterclockwise."""
    stored = (height, width) if turn % 2 else (width, height)
    scaled = converter.reformat(
        frame,
        width=stored[0],
        height=stored[1],
        format="yuv420p",
        interpolation=Interpolation.AREA if stored != (frame.width, frame.height) else Interpolation.BILINEAR,
        dst_color_range=ColorRange.MPEG,
        threads=1,
    )
    if turn == 0:
        return scaled
    packed = scaled.to_ndarray()  # (1.5 * H, W): Y, then U and V at half the size
    luma, chroma = packed[: stored[1]], packed[stored[1] :].reshape(2, stored[1] // 2, stored[0] // 2)
    planes = [np.rot90(plane, turn) for plane in (luma, *chroma)]
    return av.VideoFrame.from_ndarray(
        np.concatenate([np.ascontiguousarray(plane).reshape(-1) for plane in planes]).reshape(-1, width),
        format="yuv420p",
    )


def inspect(source: str | bytes) -> EncodedVideo:
    """Keeps a video as it is, after having decoded every frame of it.

    Args:
        source: the video's bytes or path.

    Returns:
        The original bytes; `info.num_frames` is the number of frames that decoded.

    Raises:
        DecodeError: as in `transcode_renditions`.
    """
    table = read_packet_table(source)
    if table.flaw:
        raise DecodeError(f"the video is truncated: {table.flaw}", TRUNCATED)
    hasher = FrameHasher(float(table.duration))
    count = 0
    for frame, time in _timed_frames(source, table, math.inf):
        count += 1
        hasher.offer(frame, float(time), quarter_turns(frame))
    data = source if isinstance(source, bytes) else Path(os.fspath(source)).read_bytes()
    return EncodedVideo(data, probe(source)._replace(num_frames=count), hasher.hashes())
