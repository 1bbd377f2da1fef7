"""`Segment`: a part of a file, by seconds or frame numbers; its columns in a table, its key, and its frames."""

import hashlib
import math
import os
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from datamodules.annotations.refusals import NO_INTERVAL
from datamodules.annotations.tables import AnnotationError, AnnotationRow
from datamodules.video.frame_table import FrameTable
from datamodules.video.video_container import OUT_OF_RANGE, TOO_SHORT, DecodeError

END_MARGIN_S = 1.0  # a segment may end this much after its file: lists are rounded, and files cut at key frames
_TOLERANCE_S = Fraction(1, 10**6)  # a frame at 1/25 s belongs to a segment from 0.04 s on, whatever its binary form
_TIMES, _FRAMES = ("start", "end"), ("start_frame", "end_frame")
_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d*)?)")  # hours, minutes and seconds


class Segment(NamedTuple):
    """A part of a file, in seconds from its first frame or in frame numbers; all None: the whole file.

    Attributes:
        start: seconds; the first frame is the first that is shown at this time or later; None: the file's beginning.
        end: seconds; the last frame is the last that is shown before this time; None: the file's end.
        start_frame: number of the first frame, from 0, in place of `start`.
        end_frame: number of the frame after the last one, in place of `end`.
    """

    start: float | None = None
    end: float | None = None
    start_frame: int | None = None
    end_frame: int | None = None

    @property
    def is_whole(self) -> bool:
        """Whether there are no bounds."""
        return all(bound is None for bound in self)

    def defect(self) -> tuple[str, str] | None:
        """The reason and a description of bounds that no file can have; None for sensible ones."""
        for (first, last), unit in (((self.start, self.end), " s"), ((self.start_frame, self.end_frame), "")):
            what = "frame " if unit == "" else ""
            if first is not None and first < 0:
                return OUT_OF_RANGE, f"the segment begins at {what}{first}{unit}, before the video"
            if last is not None and last <= (first or 0):
                begins, ends = f"{what}{first or 0}{unit}", f"{what}{last}{unit}"
                return (
                    NO_INTERVAL,
                    f"the segment begins at {begins} and ends at {ends}, not after its beginning",
                )
        return None

    def record_fields(self) -> dict[str, Any]:
        """The bounds as fields of a `VideoRecord`."""
        return {
            "time_start": self.start,
            "time_end": self.end,
            "start_frame": self.start_frame,
            "end_frame": self.end_frame,
            "exact_times": not self.is_whole,
        }

    @property
    def suffix(self) -> str:
        """The end of the key of the segment: milliseconds, or frame numbers after an f; with a hash if rounded.

        >>> Segment(1.5, 2.25).suffix, Segment(end_frame=40).suffix, Segment(start=3.0).suffix
        ('_1500ms_2250ms', '_f0_f40', '_3000ms_end')
        """
        if self.is_whole:
            return ""
        if self.start_frame is not None or self.end_frame is not None:
            return f"_f{self.start_frame or 0}_{'end' if self.end_frame is None else f'f{self.end_frame}'}"
        times = [None if time is None else round(1000 * time) for time in (self.start or 0.0, self.end)]
        shown = f"_{times[0]}ms_{'end' if times[1] is None else f'{times[1]}ms'}"
        exact = all(
            rounded is None or math.isclose(rounded / 1000, time or 0.0, abs_tol=1e-9)
            for rounded, time in zip(times, (self.start, self.end), strict=True)
        )
        return shown if exact else f"{shown}-{_digest(repr(tuple(self)))}"

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


def parse_clock_time(text: str) -> float | None:
    """Seconds of a time in hours, minutes and seconds, of which hours may be missing; None for other text.

    >>> parse_clock_time("1:23.5"), parse_clock_time("01:00:03"), parse_clock_time("83.5")
    (83.5, 3603.0, None)
    """
    match = _CLOCK.fullmatch(text)
    return None if match is None else 3600 * int(match[1] or 0) + 60 * int(match[2]) + float(match[3])


def check_segment_columns(file: str | os.PathLike[str], columns: Collection[str]) -> None:
    """Raises AnnotationError for a table that gives both times and frame numbers."""
    times, frames = ([name for name in names if name in columns] for names in (_TIMES, _FRAMES))
    if times and frames:
        raise AnnotationError(
            f"{os.fspath(file)}: has columns of seconds ({', '.join(times)}) and of frame numbers "
            f"({', '.join(frames)}); keep one of the two pairs"
        )


def read_segment_bounds(row: AnnotationRow) -> Segment:
    """The segment of a row; columns that the table lacks, and empty values, are no bounds.

    Raises:
        AnnotationError: a value is not a number of seconds, as 83.5 or 1:23.5, or not a whole frame number.
    """
    start, end = (_seconds(row, name) for name in _TIMES)
    start_frame, end_frame = (_frame_number(row, name) for name in _FRAMES)
    return Segment(start, end, start_frame, end_frame)


def make_segment_keys(paths: Sequence[str], file_keys: Sequence[str], segments: Sequence[Segment]) -> list[str]:
    """A key for each segment from its file's key and its bounds; equal keys get a hash of path and bounds."""
    keys = [key + segment.suffix for key, segment in zip(file_keys, segments, strict=True)]
    count = Counter(keys)
    return [
        key if count[key] == 1 else f"{key}-{_digest(f'{path} {tuple(segment)}')}"
        for key, path, segment in zip(keys, paths, segments, strict=True)
    ]


def _seconds(row: AnnotationRow, column: str) -> float | None:
    value = row.values.get(column, "").strip()
    if not value:
        return None
    time = parse_clock_time(value)
    if time is not None:
        return time
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise row.error(column, "must be a number of seconds, as 83.5 or 1:23.5, or empty")
    return number


def _frame_number(row: AnnotationRow, column: str) -> int | None:
    value = row.values.get(column, "").strip()
    if not value:
        return None
    match = re.fullmatch(r"(-?\d+)(?:\.0+)?", value, re.ASCII)
    if match is None:
        raise row.error(column, "must be a whole frame number, or empty")
    return int(match[1])


def _digest(text: str) -> str:
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:8]
