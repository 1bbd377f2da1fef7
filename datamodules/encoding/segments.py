"""Segments of a video file: their frames are found by seconds or frame numbers, decoded alone and encoded.

A segment is decoded from the key frame before it, so the time that it takes does not depend on where in the file it
lies; the file's packets are read once for all its segments (`datamodules.encoding.seek_table_cache`).
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from datamodules.encoding.rendition_encoder import EncodedVideo, encode_renditions
from datamodules.encoding.seek_table_cache import cached_seek_table, replace_seek_table
from datamodules.encoding.transcoding import read_pixel_aspect
from datamodules.video.frame_table import FrameTable, count_steps
from datamodules.video.mp4_writer import EncodeProfile
from datamodules.video.seek_table import KeyFrameError, SeekTable, iterate_part
from datamodules.video.video_container import DAMAGED, OUT_OF_RANGE, TOO_SHORT, TRUNCATED, DecodeError

END_MARGIN_S = 1.0  # a segment may end this much after its file: lists are rounded, and files cut at key frames
_TOLERANCE_S = Fraction(1, 10**6)  # a frame at 1/25 s belongs to a segment from 0.04 s on, whatever its binary form


class Segment(NamedTuple):
    """A part of a file, in seconds from its first frame or in frame numbers; None: the beginning, or the end.

    Attributes:
        start: seconds; the first frame is the first that is shown at this time or later.
        end: seconds; the last frame is the last that is shown before this time.
        start_frame: number of the first frame, from 0, in place of `start`.
        end_frame: number of the frame after the last one, in place of `end`.
    """

    start: float | None = None
    end: float | None = None
    start_frame: int | None = None
    end_frame: int | None = None

    def locate(self, table: FrameTable) -> tuple[int, int]:
        """The number of the segment's first frame, and of the frame after its last one.

        Raises:
            DecodeError: the segment begins before or after the file, ends more than `END_MARGIN_S` after it
                (`OUT_OF_RANGE`), or holds no frame (`TOO_SHORT`).
        """
        lasts = f"the video lasts {float(table.duration):.2f} s and has {table.num_frames} frames"
        first, stop = (
            self._find(table, self.start, self.start_frame, 0),
            self._find(table, self.end, self.end_frame, table.num_frames),
        )
        begins = f"{self.start} s" if self.start_frame is None else f"frame {self.start_frame}"
        ends = f"{self.end} s" if self.end_frame is None else f"frame {self.end_frame}"
        if min(first, self.start or 0) < 0:
            raise DecodeError(f"the segment begins at {begins}, before the video", OUT_OF_RANGE)
        if first >= table.num_frames:
            raise DecodeError(f"the segment begins at {begins}, after the end: {lasts}", OUT_OF_RANGE)
        if self._seconds_after(table) > END_MARGIN_S:
            raise DecodeError(f"the segment ends at {ends}, after the end: {lasts}", OUT_OF_RANGE)
        if stop <= first:
            raise DecodeError(f"the segment from {begins} to {ends} holds no frame: {lasts}", TOO_SHORT)
        return first, min(stop, table.num_frames)

    def ends_after(self, table: FrameTable) -> bool:
        """Whether the segment ends after the last frame does."""
        return self._seconds_after(table) * table.rate >= Fraction(1, 2)

    def _seconds_after(self, table: FrameTable) -> Fraction:
        """Seconds from the end of the file to the end of the segment; not above 0 where that lies in the file."""
        if self.end_frame is not None:
            return (self.end_frame - table.num_frames) / table.rate
        return Fraction(0) if self.end is None else Fraction(self.end) - table.duration

    @staticmethod
    def _find(table: FrameTable, seconds: float | None, number: int | None, default: int) -> int:
        if number is not None:
            return number
        if seconds is None:
            return default
        return bisect_left(table.ticks, (Fraction(seconds) - _TOLERANCE_S) / table.time_base)


def transcode_segment(
    source: str,
    profiles: Sequence[EncodeProfile],
    segment: Segment,
    tables: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[EncodedVideo]:
    """Encodes a segment of a file with each profile: the frames that decoding the whole file gives, and no others.

    As `transcode_renditions`, for the segment's frames: evenly spaced if they are, otherwise each at its own time;
    `profile.fps` counts from the segment's first frame.

    Args:
        source: path of the file.
        profiles: encoder settings of each rendition; at least one.
        segment: the part of the file.
        tables: folder that keeps the seek tables of files for other segments and processes; None: only this process
            keeps some.
        progress: called with the number of packets read and frames decoded so far.

    Returns:
        One video per profile, in their order, with the real times of its first frame and of its end.

    Raises:
        DecodeError: the file or segment is refused, with the `reason`; nothing partial is returned.
    """
    report_step = count_steps(progress)
    table = cached_seek_table(source, tables, report_step)
    videos = _encode(source, table, profiles, segment, report_step)
    if videos is None:
        table = replace_seek_table(source, tables, report_step)
        videos = _encode(source, table, profiles, segment, report_step)
    if videos is None:
        raise DecodeError("it gives other frames when it is decoded again", DAMAGED)
    return videos


def _encode(
    source: str,
    table: SeekTable,
    profiles: Sequence[EncodeProfile],
    segment: Segment,
    report_step: Callable[[], None],
) -> list[EncodedVideo] | None:
    """Encodes the segment from the first key frame that gives the frames of the table; None where none does."""
    frames = table.frames
    if frames.truncation:
        raise DecodeError(f"the video is truncated: {frames.truncation}", TRUNCATED)
    first, stop = segment.locate(frames)
    for key in table.starting_keys(first):
        with suppress(KeyFrameError):
            videos = encode_renditions(
                iterate_part(source, table, first, stop, key, report_step),
                frames.part(first, stop),
                lambda orientation: read_pixel_aspect(source, orientation),
                profiles,
            )
            return [describe_segment(video, segment, frames, first, stop) for video in videos]
    return None


def describe_segment(video: EncodedVideo, segment: Segment, table: FrameTable, first: int, stop: int) -> EncodedVideo:
    """The video with the times of its frames, from `first` to before `stop`, in the source of `table`."""
    start, end = table.time(first), table.time(stop)
    return video._replace(
        notes=video.notes._replace(ends_after_file=segment.ends_after(table)),
        source_start=float(start),
        source_end=float(end),
        source_share=float((end - start) / table.duration),
    )
