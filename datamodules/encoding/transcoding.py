"""Transcoding of videos for training: every frame is decoded once, scaled, and encoded once per rendition.

Random clips of such files decode several times faster than those of videos encoded for the web, at about the same
size. `datamodules.video.mp4_writer` has the encoder settings; its names are exported here too.
"""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import av

from datamodules.encoding.rendition_encoder import (
    EncodedVideo,
    RenditionEncoder,
    SourceIrregularities,
    check_num_encoded,
)
from datamodules.leakage.perceptual_hash import FrameHasher
from datamodules.video.frame_table import FrameTable, count_steps, read_frame_table
from datamodules.video.mp4_writer import EncodeProfile, encode_frames, target_size
from datamodules.video.orientation import Orientation, orientation_of
from datamodules.video.probing import describe_video
from datamodules.video.video_container import (
    NO_FRAMES,
    TOO_SHORT,
    TRUNCATED,
    DecodeError,
    Source,
    iterate_frames,
    open_video,
)

__all__ = [
    "EncodeProfile",
    "EncodedVideo",
    "SourceIrregularities",
    "encode_frames",
    "inspect",
    "target_size",
    "transcode",
    "transcode_renditions",
]

Result = TypeVar("Result")

TRIM_MARGIN_S = 1.0  # a file at most this much longer than its annotated clip is taken as already cut


def transcode(
    source: str | bytes, profile: EncodeProfile, time_start: float | None = None, time_end: float | None = None
) -> EncodedVideo:
    """Encodes one rendition of a video: `transcode_renditions` with one profile."""
    (video,) = transcode_renditions(source, (profile,), time_start, time_end)
    return video


def transcode_renditions(
    source: str | bytes,
    profiles: Sequence[EncodeProfile],
    time_start: float | None = None,
    time_end: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[EncodedVideo]:
    """Decodes every frame of a video once, and encodes it for training with each profile, without sound.

    The display matrix is applied and the short side scaled. Every frame of the source is kept: evenly spaced if the
    source's frames are (within half of a frame's duration), otherwise each at its own time, in an mp4 of variable rate.
    With `profile.fps` the rate is constant: frame i is the one that the source shows at (i + 0.5) / fps seconds. Where
    the source's clock starts again or jumps, the next frame follows at the usual distance.

    Annotated times refer to the original video, while files are often cut already. So the file is trimmed to
    [time_start, time_end) only if it is longer than that by more than `TRIM_MARGIN_S` and reaches `time_end` (minus
    the margin); otherwise it is kept whole. `time_start` alone always trims. Frames before the start are decoded too.

    A file counts as damaged, and is refused, if its container lists bytes that are not there, if a packet or frame is
    marked corrupt or does not decode, or if frames are missing and the decoder logs an error. Errors that the decoder
    conceals silently go unnoticed.

    Args:
        source: the bytes of a video file, or its path.
        profiles: encoder settings of each rendition; at least one.
        time_start: start of the annotated clip in seconds, or None.
        time_end: end of the annotated clip in seconds, or None.
        progress: called with the number of packets read and frames decoded so far.

    Returns:
        One video per profile, in their order; each is the same as with its profile alone.

    Raises:
        DecodeError: with the `reason`; nothing partial is returned.
        ValueError: `time_start` and `time_end` are not an interval.
    """
    report_step = count_steps(progress)

    def encode(table: FrameTable) -> list[EncodedVideo]:
        return _encode_renditions(source, table, profiles, time_start, time_end, report_step)

    return _call_with_frame_table(source, encode, report_step)


def _call_with_frame_table(
    source: Source, function: Callable[[FrameTable], Result], report_step: Callable[[], None]
) -> Result:
    """Calls a function that decodes a whole file with the file's frame table.

    The table is made from the packets; if the number of decoded frames differs, the call is repeated with a table made
    by decoding.

    Raises:
        DecodeError: the file is truncated or damaged.
    """
    table = read_frame_table(source, "ordered", report_step)
    if table.truncation:
        raise DecodeError(f"the video is truncated: {table.truncation}", TRUNCATED)
    try:
        return function(table)
    except _FrameCountError:
        return function(read_frame_table(source, "nothing", report_step))


class _FrameCountError(Exception):
    """The number of decoded frames differs from the frame table's."""


def _encode_renditions(
    source: str | bytes,
    table: FrameTable,
    profiles: Sequence[EncodeProfile],
    time_start: float | None,
    time_end: float | None,
    report_step: Callable[[], None],
) -> list[EncodedVideo]:
    start, end = _trim(table.duration, time_start, time_end)
    last = min(table.duration, Fraction(end)) if math.isfinite(end) else table.duration
    check_num_encoded(table.rate, last - Fraction(start), profiles)
    offset = Fraction(start)
    renditions: list[RenditionEncoder] = []
    aspect = Fraction(1)
    for frame, time in _timed_frames(source, table, end):
        report_step()
        if time < offset and not math.isclose(time, offset, abs_tol=1e-6):
            continue
        if not renditions:
            offset, aspect = time, read_pixel_aspect(source, orientation_of(frame))
            length = float(last - time)
            renditions = [RenditionEncoder(frame, table, aspect, length, profile) for profile in profiles]
        for rendition in renditions:
            rendition.encode(frame, time - offset)
    if not renditions:
        raise DecodeError(
            f"nothing is left from {start} s on: the video lasts {float(table.duration):.2f} s", TOO_SHORT
        )
    videos = [rendition.finish(last - offset) for rendition in renditions]
    counts = renditions[0].frames_dropped, renditions[0].frames_repeated
    notes = SourceIrregularities(table.variable_rate, table.clock_jumps, table.other_streams, *counts, aspect != 1)
    return [video._replace(notes=notes) for video in videos]


def read_pixel_aspect(source: str | bytes, orientation: Orientation) -> Fraction:
    """Width of a pixel divided by its height, after rotation."""
    with open_video(source) as (_, stream):
        aspect = Fraction(stream.sample_aspect_ratio or 1)
    return 1 / aspect if orientation.swaps_sides else aspect


def _trim(duration: Fraction, start: float | None, end: float | None) -> tuple[float, float]:
    """Start and end of the part to keep, in seconds from the first frame; see `transcode_renditions`."""
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


def _timed_frames(source: str | bytes, table: FrameTable, end: float) -> Iterator[tuple[av.VideoFrame, Fraction]]:
    """Decodes every frame up to `end`, and yields each with its time in seconds from the first.

    Raises:
        _FrameCountError: the number of frames differs from the table's.
    """
    count = 0
    for frame in iterate_frames(source):
        if count == table.num_frames:
            raise _FrameCountError
        time = table.ticks[count] * table.time_base
        if time >= end:
            return
        count += 1
        yield frame, time
    if count == 0:
        raise DecodeError("the video has no frames", NO_FRAMES)
    if count < table.num_frames:
        raise _FrameCountError


def inspect(source: str | bytes, progress: Callable[[int], None] | None = None) -> EncodedVideo:
    """Decodes every frame of a video to check it, and keeps its bytes as they are.

    Args:
        source: the bytes of a video file, or its path.
        progress: called with the number of packets read and frames decoded so far.

    Returns:
        The original bytes; `info.num_frames` is the number of decoded frames.

    Raises:
        DecodeError: the file is truncated or damaged, see `transcode_renditions`.
    """
    report_step = count_steps(progress)

    def decode(table: FrameTable) -> EncodedVideo:
        hasher = FrameHasher(float(table.duration))
        for frame, time in _timed_frames(source, table, math.inf):
            report_step()
            hasher.add_frame(frame, float(time), orientation_of(frame))
        info = describe_video(source, table)
        data = source if isinstance(source, bytes) else Path(os.fspath(source)).read_bytes()
        stretched = info.pixel_aspect != 1
        notes = SourceIrregularities(
            table.variable_rate, table.clock_jumps, table.other_streams, stretched_pixels=stretched
        )
        return EncodedVideo(data, info, hasher.hashes(), notes)

    return _call_with_frame_table(source, decode, report_step)
