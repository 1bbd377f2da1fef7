"""What a video file is: frames, rate, size, how it is shown; `datamodules.video.decoding` offers these names too."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from datamodules.video.frame_table import FrameTable, count_steps, read_frame_table
from datamodules.video.orientation import orientation_of
from datamodules.video.video_container import (
    NO_FRAMES,
    DecodeError,
    Source,
    iterate_open,
    library_errors,
    open_video,
)


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
        clock_jumps: places where the file's clock starts again or jumps, which are closed.
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


def probe(source: Source, progress: Callable[[int], None] | None = None) -> VideoInfo:
    """Reads what a video is: its frames are counted, by packets where they tell, and one is decoded for size and more.

    Args:
        source: the bytes of a video file, or its path.
        progress: called with a number that grows: of packets read and frames decoded so far.

    Raises:
        DecodeError: the file cannot be opened, has no video stream or no frame.
    """
    return describe_video(source, read_frame_table(source, moved=count_steps(progress)))


def describe_video(source: Source, table: FrameTable) -> VideoInfo:
    """What a video is, from the table of its frames; see `probe`."""
    with open_video(source) as (container, stream), library_errors("the first frame does not decode"):
        frame = next(iterate_open(container, stream), None)
        if frame is None or table.num_frames == 0:
            raise DecodeError("the video has no frames", NO_FRAMES)
        shown, codec = orientation_of(frame), stream.codec_context.name
        width, height = (frame.height, frame.width) if shown.swaps_sides else (frame.width, frame.height)
        aspect = float(stream.sample_aspect_ratio or 1)
    return VideoInfo(
        num_frames=table.num_frames,
        fps=float(table.rate),
        width=width,
        height=height,
        duration_s=float(table.duration),
        rotation=90 * shown.quarter_turns,
        codec=codec,
        variable_rate=table.variable_rate,
        pixel_aspect=1 / aspect if shown.swaps_sides else aspect,
        mirrored=shown.mirrored,
        other_streams=table.other_streams,
        clock_jumps=table.clock_jumps,
    )


def read_frame_times(source: Source) -> npt.NDArray[np.float64]:
    """When each frame of a video is shown: float64 (F,), seconds from the first one, never descending.

    Raises:
        DecodeError: the video cannot be opened or read.
    """
    table = read_frame_table(source)
    return np.array(table.ticks, np.float64) * float(table.time_base)
