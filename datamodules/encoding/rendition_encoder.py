"""Rendition encoder: scales, times, hashes and encodes the frames of one video, one frame at a time."""

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from datamodules.leakage.perceptual_hash import FrameHasher
from datamodules.video.frame_table import FrameTable
from datamodules.video.mp4_writer import EncodeProfile, Mp4Writer, as_rate, target_size
from datamodules.video.orientation import UPRIGHT, Orientation, orientation_of
from datamodules.video.probing import VideoInfo, probe
from datamodules.video.video_container import MAX_FRAMES, TOO_LARGE, DecodeError


class SourceIrregularities(NamedTuple):
    """Irregularities of a packed source video that users should know.

    Attributes:
        variable_rate: its frames are not evenly spaced in time.
        clock_jumps: number of places where its clock restarts or jumps, which were corrected.
        other_streams: number of further video streams in the file, which were not packed.
        frames_dropped: number of source frames missing from the output because of a lower constant rate.
        frames_repeated: number of output frames that repeat the source frame of the previous one.
        stretched_pixels: its pixels are not square.
        ends_after_file: it is a segment that ends after its file does, and was cut there.
    """

    variable_rate: bool = False
    clock_jumps: int = 0
    other_streams: int = 0
    frames_dropped: int = 0
    frames_repeated: int = 0
    stretched_pixels: bool = False
    ends_after_file: bool = False


class EncodedVideo(NamedTuple):
    """An encoded video.

    Attributes:
        data: the bytes of the file.
        info: its properties.
        frame_hashes: perceptual hashes of some of its frames.
        notes: irregularities of the source.
        source_start: of a segment, seconds from the start of the source to the segment's first frame; else None.
        source_end: of a segment, seconds from the start of the source to the end of its last frame; else None.
        source_share: the part of the source that was packed, as a fraction of its duration.
        flow: the bytes of its optical flow (`datamodules.encoding.flow_rendition`); empty without.
    """

    data: bytes
    info: VideoInfo
    frame_hashes: tuple[int, ...] = ()
    notes: SourceIrregularities = SourceIrregularities()
    source_start: float | None = None
    source_end: float | None = None
    source_share: float = 1.0
    flow: bytes = b""


class RenditionEncoder:
    """Encodes one rendition of a video whose frames are passed to `encode` in presentation order.

    Without `profile.fps` every frame is written once: evenly spaced if the source's frames are, otherwise each at its
    own time. With it, frame i is the one that the source shows in the middle of [i / fps, (i + 1) / fps).

    Args:
        first: the first frame, shown at time 0.
        table: the frame table of the source.
        pixel_aspect: width of a source pixel divided by its height, after rotation.
        duration_s: duration of the frames to encode in seconds, as far as known.
        profile: encoder settings.
    """

    def __init__(
        self, first: av.VideoFrame, table: FrameTable, pixel_aspect: Fraction, duration_s: float, profile: EncodeProfile
    ) -> None:
        orientation = orientation_of(first)
        width, height = (first.height, first.width) if orientation.swaps_sides else (first.width, first.height)
        if profile.square_pixels:
            width, pixel_aspect = max(1, round(width * pixel_aspect)), Fraction(1)
        self._width, self._height = target_size(width, height, profile.short_side)
        self._rate = encoded_rate(table.rate, profile)
        self._resampled = profile.fps is not None
        self._own_times = table.variable_rate and not self._resampled
        self._converter = VideoReformatter()
        self._hasher = FrameHasher(duration_s)
        longest_step = _longest_step(table) if self._own_times else None
        self._writer = Mp4Writer(self._width, self._height, self._rate, profile, pixel_aspect, longest_step)
        self._writer.copy_color(first)
        self._pixel_aspect = float(pixel_aspect)
        self._pending: av.VideoFrame | None = None
        self._num_repetitions = 0  # how often the pending frame was written
        self._last_time = Fraction(0)
        self.frames_dropped = self.frames_repeated = 0

    def encode(self, frame: av.VideoFrame, time: Fraction) -> None:
        """Takes the next frame, shown from `time` (seconds) until the time of the one after it."""
        if self._resampled:
            self._write_until(time)
            self.frames_dropped += self._pending is not None and not self._num_repetitions
        self._last_time = time
        scaled = _scale(self._converter, frame, self._width, self._height, orientation_of(frame))
        if self._resampled:
            self._pending, self._num_repetitions = scaled, 0
        else:
            self._write(scaled, float(time), time if self._own_times else None)

    def finish(self, end: Fraction) -> EncodedVideo:
        """Closes the file and returns the video; the last frame is shown until `end` (seconds)."""
        if self._resampled:
            self._write_until(max(end, self._last_time + Fraction(1, 2) / self._rate))
            if self._writer.num_frames == 0 and self._pending is not None:  # one frame, and a low rate
                self._write(self._pending, 0.0)
            self.frames_dropped += not self._num_repetitions and self._writer.num_frames > 1
        data = self._writer.finish(end if self._own_times else None)
        return EncodedVideo(data, self._describe(data), self._hasher.hashes())

    def _describe(self, data: bytes) -> VideoInfo:
        if self._own_times:
            return probe(data)
        count, aspect = self._writer.num_frames, self._pixel_aspect
        seconds, rate = float(count / self._rate), float(self._rate)
        return VideoInfo(count, rate, self._width, self._height, seconds, 0, "h264", pixel_aspect=aspect)

    def _write_until(self, time: Fraction) -> None:
        """Writes the pending frame for every output frame whose middle is at or before `time`."""
        while self._pending is not None and (self._writer.num_frames + Fraction(1, 2)) / self._rate <= time:
            self.frames_repeated += self._num_repetitions > 0
            self._num_repetitions += 1
            self._write(self._pending, float(self._writer.num_frames / self._rate))

    def _write(self, frame: av.VideoFrame, time_s: float, time: Fraction | None = None) -> None:
        self._hasher.add_frame(frame, time_s)
        self._writer.write(frame, time)


def encode_renditions(
    frames: Iterable[av.VideoFrame],
    table: FrameTable,
    pixel_aspect: Callable[[Orientation], Fraction],
    profiles: Sequence[EncodeProfile],
) -> list[EncodedVideo]:
    """Encodes frames with each profile, one video per profile.

    Args:
        frames: all frames of `table`, in presentation order.
        table: the frame table of these frames alone.
        pixel_aspect: function from the orientation of the first frame to the width of a pixel divided by its height.
        profiles: encoder settings of each rendition; at least one.

    Raises:
        DecodeError: at the rate of a profile there would be more than `MAX_FRAMES` frames.
    """
    check_num_encoded(table.rate, table.duration, profiles)
    renditions: list[RenditionEncoder] = []
    aspect = Fraction(1)
    for frame, tick in zip(frames, table.ticks, strict=True):
        if not renditions:
            aspect = pixel_aspect(orientation_of(frame))
            length = float(table.duration)
            renditions = [RenditionEncoder(frame, table, aspect, length, profile) for profile in profiles]
        for rendition in renditions:
            rendition.encode(frame, tick * table.time_base)
    videos = [rendition.finish(table.duration) for rendition in renditions]
    counts = renditions[0].frames_dropped, renditions[0].frames_repeated
    notes = SourceIrregularities(table.variable_rate, table.clock_jumps, table.other_streams, *counts, aspect != 1)
    return [video._replace(notes=notes) for video in videos]


def check_num_encoded(rate: Fraction, duration: Fraction, profiles: Sequence[EncodeProfile]) -> None:
    """Raises DecodeError if resampling a source of this rate and duration (seconds) would give too many frames."""
    rates = [encoded_rate(rate, profile) for profile in profiles if profile.fps is not None]
    if rates and duration * max(rates) > MAX_FRAMES:
        raise DecodeError(f"it claims to last {float(duration):.0f} s, more than {MAX_FRAMES} frames", TOO_LARGE)


def encoded_rate(rate: Fraction, profile: EncodeProfile) -> Fraction:
    """The frame rate of the encoded video, for a source of `rate` frames per second."""
    return as_rate(rate if profile.fps is None else profile.fps)


def _longest_step(table: FrameTable) -> Fraction:
    steps = [after - before for before, after in pairwise(table.ticks)]
    return max(max(steps) * table.time_base, table.duration - table.ticks[-1] * table.time_base)


def _scale(
    converter: VideoReformatter, frame: av.VideoFrame, width: int, height: int, orientation: Orientation
) -> av.VideoFrame:
    """The frame scaled to (width, height) in the display orientation, as yuv420p."""
    stored_size = (height, width) if orientation.swaps_sides else (width, height)
    scaled = converter.reformat(
        frame,
        width=stored_size[0],
        height=stored_size[1],
        format="yuv420p",
        interpolation=Interpolation.AREA if stored_size != (frame.width, frame.height) else Interpolation.BILINEAR,
        dst_color_range=ColorRange.MPEG,
        threads=1,
    )
    if orientation == UPRIGHT:
        return scaled
    packed = scaled.to_ndarray()  # (1.5 * H, W): Y, then U and V at half the size
    luma, chroma = (
        packed[: stored_size[1]],
        packed[stored_size[1] :].reshape(2, stored_size[1] // 2, stored_size[0] // 2),
    )
    planes = [orientation.apply(plane) for plane in (luma, *chroma)]
    return av.VideoFrame.from_ndarray(
        np.concatenate([np.ascontiguousarray(plane).reshape(-1) for plane in planes]).reshape(-1, width),
        format="yuv420p",
    )
