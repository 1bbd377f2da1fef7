"""Videos encoded for training: H.264 in mp4, constant frame rate, a key frame every few frames, no B-frames.

Random clips of such files decode several times faster than those of videos encoded for the web, at about the same
size. The same frames give the same bytes on every machine with the same x264 (one thread, `cpu-independent`).
"""

import io
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from datamodules.frame_hashes import FrameHasher
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

TRIM_MARGIN_S = 1.0  # a file at most this much longer than its annotated clip is that clip, cut already
_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True)
class EncodeProfile:
    """How videos are encoded for training; plain data, recorded in dataset.json.

    Attributes:
        short_side: pixels of the shorter side; a smaller source keeps its size (less one where it is odd).
        fps: frames per second, or None for the source's average rate.
        key_frame_interval: frames from one key frame to the next: what a random clip has to decode before its start.
        crf: x264's constant rate factor, 0 (lossless) to 51.
        preset: x264's preset, `ultrafast` to `veryslow`.
    """

    short_side: int = 256
    fps: float | None = None
    key_frame_interval: int = 16
    crf: int = 23
    preset: str = "veryfast"

    def __post_init__(self) -> None:
        if self.short_side < 16:
            raise ValueError(f"short_side={self.short_side}: must be at least 16 pixels")
        if self.fps is not None and not 0 < self.fps <= 1000:
            raise ValueError(f"fps={self.fps}: must be above 0 and at most 1000, or None for the source's rate")
        if self.key_frame_interval < 1:
            raise ValueError(f"key_frame_interval={self.key_frame_interval}: must be at least 1")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf={self.crf}: must be from 0 to 51")
        if self.preset not in _PRESETS:
            raise ValueError(f"preset={self.preset!r}: must be one of {', '.join(_PRESETS)}")

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain data: str, int, float and None."""
        return asdict(self)


class EncodedVideo(NamedTuple):
    """The bytes of a video file whose frames were all decoded once, what they are, and hashes of some of them."""

    data: bytes
    info: VideoInfo
    frame_hashes: tuple[int, ...] = ()


class _Mp4Writer:
    """Encodes yuv420p frames of one size, one after the other, into an mp4 in memory."""

    def __init__(self, width: int, height: int, rate: Fraction, profile: EncodeProfile) -> None:
        self._file = io.BytesIO()
        self._container = av.open(self._file, "w", format="mp4", options={"fflags": "+bitexact"})
        self._stream = self._container.add_stream("libx264", rate=rate)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.time_base = 1 / rate
        self._stream.codec_context.thread_count = 1
        interval = profile.key_frame_interval
        self._stream.options = {
            "preset": profile.preset,
            "crf": str(profile.crf),
            "x264-params": (
                f"keyint={interval}:min-keyint={interval}:scenecut=0:bframes=0:open-gop=0:cpu-independent=1:threads=1"
            ),
        }
        self.num_frames = 0

    def take_color_from(self, frame: av.VideoFrame) -> None:
        """Tags the output with the source's color matrix, so that its pixels keep their colors."""
        context = self._stream.codec_context
        context.colorspace, context.color_range = frame.colorspace, ColorRange.MPEG
        context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc

    def write(self, frame: av.VideoFrame) -> None:
        frame.pts, frame.time_base = self.num_frames, self._stream.codec_context.time_base
        frame.pict_type = 0  # or x264 would repeat the source's key frames
        self._container.mux(self._stream.encode(frame))
        self.num_frames += 1

    def finish(self) -> bytes:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._file.getvalue()


def _as_rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1001)  # 29.97... becomes 30000/1001


def encode_frames(
    frames: Iterable[npt.NDArray[np.uint8]],
    fps: float,
    *,
    crf: int = 23,
    key_frame_interval: int = 16,
    preset: str = "veryfast",
) -> bytes:
    """Encodes frames into an mp4 file: H.264, yuv420p, BT.601, no audio, frame i at i / fps seconds.

    Args:
        frames: uint8 (H, W, 3) RGB, all of one size; H and W even, because yuv420p halves both.
        fps: frames per second, above 0.
        crf: x264's constant rate factor, 0 to 51.
        key_frame_interval: frames from one key frame to the next.
        preset: x264's preset.

    Returns:
        The file's bytes: the same for the same frames and settings.

    Raises:
        ValueError: no frame, a wrong dtype or shape, an odd side, or a setting out of range.
    """
    profile = EncodeProfile(fps=fps, crf=crf, key_frame_interval=key_frame_interval, preset=preset)
    writer: _Mp4Writer | None = None
    shape: tuple[int, ...] = ()
    converter = VideoReformatter()
    for array in frames:
        if writer is None:
            if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3:
                raise ValueError(f"frames must be uint8 (H, W, 3), not {array.dtype} {array.shape}")
            if array.shape[0] % 2 or array.shape[1] % 2 or 0 in array.shape:
                raise ValueError(f"frames of {array.shape[1]}x{array.shape[0]}: both sides must be even; crop or pad")
            shape = array.shape
            writer = _Mp4Writer(shape[1], shape[0], _as_rate(fps), profile)
        if array.shape != shape or array.dtype != np.uint8:
            raise ValueError(f"frames must all be uint8 {shape}, not {array.dtype} {array.shape}")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")
        writer.write(converter.reformat(frame, format="yuv420p", threads=1))
    if writer is None:
        raise ValueError("frames is empty: a video needs at least one frame")
    return writer.finish()


def target_size(width: int, height: int, short_side: int) -> tuple[int, int]:
    """The (width, height) that brings the shorter side to `short_side`, never larger than the source, both even.

    >>> target_size(340, 256, 128), target_size(101, 75, 256)
    ((170, 128), (100, 74))
    """
    short = min(width, height)
    if short <= short_side:
        return max(2, width - width % 2), max(2, height - height % 2)
    return (
        max(2, 2 * round(width * short_side / short / 2)),
        max(2, 2 * round(height * short_side / short / 2)),
    )


def _trim(duration: Fraction, start: float | None, end: float | None) -> tuple[float, float]:
    """The part of a file to keep, in seconds from its first frame; see `transcode`."""
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


def transcode(
    source: str | bytes, profile: EncodeProfile, time_start: float | None = None, time_end: float | None = None
) -> EncodedVideo:
    """Decodes every frame of a video and encodes it for training, without its sound.

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
        profile: how to encode.
        time_start: seconds, or None.
        time_end: seconds, or None.

    Raises:
        DecodeError: with the `reason`; nothing partial is returned.
        ValueError: `time_start` and `time_end` are no span.
    """
    table = read_packet_table(source)
    if table.flaw:
        raise DecodeError(f"the video is truncated: {table.flaw}", TRUNCATED)
    start, end = _trim(table.duration, time_start, time_end)
    last = min(table.duration, Fraction(end)) if math.isfinite(end) else table.duration
    rate = _as_rate(profile.fps) if profile.fps is not None else table.rate.limit_denominator(1001)
    if (last - Fraction(start)) * rate > MAX_FRAMES:
        raise DecodeError(f"it claims to last {float(last):.0f} s, more than {MAX_FRAMES} frames", TOO_LARGE)
    converter = VideoReformatter()
    hasher: FrameHasher | None = None
    writer: _Mp4Writer | None = None
    pending: av.VideoFrame | None = None
    width = height = 0

    def write_until(time: Fraction) -> None:
        """Shows the pending frame for every output time whose middle comes before `time`."""
        while pending is not None and writer is not None and (writer.num_frames + Fraction(1, 2)) / rate <= time:
            write(pending)

    def write(frame: av.VideoFrame) -> None:
        if writer is not None and hasher is not None:
            hasher.offer(frame, float(writer.num_frames / rate))
            writer.write(frame)

    offset = Fraction(start)
    last_time = Fraction(0)
    for frame, time in _timed_frames(source, table, end):
        if time < offset and not math.isclose(time, offset, abs_tol=1e-6):
            continue
        turn = quarter_turns(frame)
        if writer is None:
            offset = time
            size = (frame.height, frame.width) if turn % 2 else (frame.width, frame.height)
            width, height = target_size(*size, profile.short_side)
            writer = _Mp4Writer(width, height, rate, profile)
            writer.take_color_from(frame)
            hasher = FrameHasher(float(last - time))
        last_time = time - offset
        write_until(last_time)
        pending = _scale(converter, frame, width, height, turn)
    if writer is None or hasher is None:
        raise DecodeError(
            f"nothing is left from {start} s on: the video lasts {float(table.duration):.2f} s", TOO_SHORT
        )
    whole = last - offset
    write_until(max(whole, last_time + Fraction(1, 2) / rate))
    if writer.num_frames == 0 and pending is not None:  # one frame, asked for at a low rate
        write(pending)
    num_frames = writer.num_frames
    info = VideoInfo(num_frames, float(rate), width, height, float(num_frames / rate), 0, "h264")
    return EncodedVideo(writer.finish(), info, hasher.hashes())


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
        DecodeError: as in `transcode`.
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
