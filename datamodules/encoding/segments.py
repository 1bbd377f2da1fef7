"""Encoding of segments of a video file: the frames of each are decoded alone.

A segment is decoded from the key frame before it, so the time that it takes does not depend on where in the file it
lies; the file's packets are read once for all its segments (`datamodules.encoding.seek_table_cache`).
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from datamodules.annotations.segments import Segment
from datamodules.encoding.rendition_encoder import EncodedVideo, encode_renditions
from datamodules.encoding.seek_table_cache import cached_seek_table, replace_seek_table
from datamodules.encoding.transcoding import read_pixel_aspect
from datamodules.video.frame_table import FrameTable, count_steps
from datamodules.video.mp4_writer import EncodeProfile
from datamodules.video.seek_table import KeyFrameError, SeekTable, iterate_part
from datamodules.video.video_container import DAMAGED, TRUNCATED, DecodeError


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
            return [with_source_times(video, segment, frames, first, stop) for video in videos]
    return None


def with_source_times(video: EncodedVideo, segment: Segment, table: FrameTable, first: int, stop: int) -> EncodedVideo:
    """The video with the times of its frames, from `first` to before `stop`, in the source of `table`."""
    start, end = table.time(first), table.time(stop)
    return video._replace(
        notes=video.notes._replace(ends_after_file=segment.ends_after(table)),
        source_start=float(start),
        source_end=float(end),
        source_share=float((end - start) / table.duration),
    )
