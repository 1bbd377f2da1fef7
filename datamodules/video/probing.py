"""Probing of a video file: number of frames, frame rate, size, orientation, codec and frame times."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from datamodules.video.frame_table import FrameTable, count_steps, read_frame_table
from datamodules.video.orientation import orientation_of
from datamodules.video.video_container import (
    NO_FRAMES,
    TRUNCATED,
    DecodeError,
    Source,
    iterate_open,
    library_errors,
    open_video,
)

_HASHED_BYTES = 2**22  # between two reports of progress


class VideoInfo(NamedTuple):
    """The properties of a video.

    Attributes:
        num_frames: number of frames that decoding gives.
        fps: average frames per second.
        width: pixels, after rotation.
        height: pixels, after rotation.
        duration_s: seconds from the first frame's start to the last one's end.
        rotation: counterclockwise rotation in degrees that decoding applies to stored frames: 0, 90, 180 or 270.
        codec: FFmpeg's name of the decoder, such as `h264`.
        variable_rate: a frame is half of the average frame duration or more away from even spacing;
            `read_frame_times` gives the times, and `fps` is an average.
        pixel_aspect: width of a pixel divided by its height, after rotation; 1.0 is square.
        mirrored: whether decoding mirrors stored frames left to right, before the rotation.
        other_streams: number of further video streams in the file, which are not read; cover pictures do not count.
        clock_jumps: number of places where the file's clock starts again or jumps, which are corrected.
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
    clock_jumps: int = 0


class ProbedVideo(NamedTuple):
    """The digest of a video's bytes, hexadecimal sha256, and its properties."""

    content_sha256: str
    info: VideoInfo


def probe(source: Source, progress: Callable[[int], None] | None = None) -> VideoInfo:
    """Reads the properties of a video: counts frames by packets where possible, and decodes one frame.

    Args:
        source: the bytes of a video file, or its path.
        progress: called with the number of packets read and frames decoded so far.

    Raises:
        DecodeError: the file cannot be opened, has no video stream or no frame.
    """
    return describe_video(source, read_frame_table(source, report_step=count_steps(progress)))


def describe_video(source: Source, table: FrameTable) -> VideoInfo:
    """The properties of a video whose frame table was read already; see `probe`."""
    with open_video(source) as (container, stream), library_errors("the first frame does not decode"):
        frame = next(iterate_open(container, stream), None)
        if frame is None or table.num_frames == 0:
            raise DecodeError("the video has no frames", NO_FRAMES)
        orientation, codec = orientation_of(frame), stream.codec_context.name
        width, height = (frame.height, frame.width) if orientation.swaps_sides else (frame.width, frame.height)
        aspect = float(stream.sample_aspect_ratio or 1)
    return VideoInfo(
        num_frames=table.num_frames,
        fps=float(table.rate),
        width=width,
        height=height,
        duration_s=float(table.duration),
        rotation=90 * orientation.quarter_turns,
        codec=codec,
        variable_rate=table.variable_rate,
        pixel_aspect=1 / aspect if orientation.swaps_sides else aspect,
        mirrored=orientation.mirrored,
        other_streams=table.other_streams,
        clock_jumps=table.clock_jumps,
    )


def read_frame_times(source: Source) -> npt.NDArray[np.float64]:
    """The presentation times of all frames: float64 (F,), seconds from the first frame, never descending.

    Raises:
        DecodeError: the video cannot be opened or read.
    """
    table = read_frame_table(source)
    return np.array(table.ticks, np.float64) * float(table.time_base)


def probe_file(path: str, progress: Callable[[int], None] | None = None) -> ProbedVideo:
    """Reads the properties and the digest of a video file; meant to run in a process that can be killed.

    Args:
        path: the path of the file.
        progress: called with the number of packets read and frames decoded so far, then with further growing numbers.

    Raises:
        DecodeError: the file cannot be opened, is truncated, or has no video stream or no frame.
        OSError: the file cannot be read.
    """
    steps = 0

    def report_step() -> None:
        nonlocal steps
        steps += 1
        if progress is not None:
            progress(steps)

    table = read_frame_table(path, report_step=report_step)
    if table.truncation:
        raise DecodeError(f"the video is truncated: {table.truncation}", TRUNCATED)
    info = describe_video(path, table)
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(_HASHED_BYTES):
            digest.update(block)
            report_step()
    return ProbedVideo(digest.hexdigest(), info)
