"""Clip shape: number of frames and their spacing, and the frame numbers of a clip that begins at a given place."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.sampling.frame_times import FrameTimes

Integers = NDArray[np.int64]
Seconds = NDArray[np.float64]
ShortVideos = Literal["loop", "repeat_last", "error"]

_ROUNDING_TOLERANCE = 1e-6  # added before rounding down, so that 30 / 10 * 3 = 8.999... gives 9


@dataclass(frozen=True)
class ClipShape:
    """The shape of a clip, in source frames or in time.

    Attributes:
        num_frames: frames of a clip, T.
        frame_interval: source frames from one frame of the clip to the next, if `fps` is None.
        fps: frames per second of video time; each is the source frame shown at that time.
        short_videos: extension of videos shorter than the span: `loop` starts again from the first frame,
            `repeat_last` repeats the last frame, `error` raises ValueError.
        segments: a clip is one frame from each of `num_frames` equal parts of the video, instead of neighbors
            (TSN, Wang et al. 2016, section 3.1, with snippets of one frame). `frame_interval` and `fps` are then
            ignored, and a video with fewer frames than parts shows some twice, in order.
    """

    num_frames: int
    frame_interval: int = 1
    fps: float | None = None
    short_videos: ShortVideos = "loop"
    segments: bool = False

    def __post_init__(self) -> None:
        for name in ("num_frames", "frame_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.fps is not None and self.fps <= 0:
            raise ValueError(f"fps={self.fps}: must be above 0")

    def interval(self, video_fps: float) -> float:
        """Source frames from one frame of a clip to the next, may be fractional."""
        return self.frame_interval if self.fps is None else video_fps / self.fps

    def offsets(self, video_fps: float) -> Integers:
        """Frame numbers of a clip relative to its first frame: int64 (T,)."""
        return floor_positions(np.arange(self.num_frames) * self.interval(video_fps))

    def span(self, video_fps: float) -> int:
        """Source frames from the first to the last frame of a clip, both included."""
        return math.floor((self.num_frames - 1) * self.interval(video_fps) + _ROUNDING_TOLERANCE) + 1

    @property
    def step_s(self) -> float:
        """Seconds from one frame to the next of a clip taken at `fps`."""
        assert self.fps is not None, "only clips at a rate are taken by time"
        return 1 / self.fps

    @property
    def length_s(self) -> float:
        """Seconds from the first to the last frame of a clip taken at `fps`."""
        return (self.num_frames - 1) * self.step_s

    def frame_times(self, times: Seconds | None, video_frames: int, video_fps: float) -> FrameTimes | None:
        """The frame times, if the clip's frames depend on them; None if frame numbers suffice."""
        return None if times is None or self.fps is None else FrameTimes(times, video_frames, video_fps)

    def frames_at_times(self, starts: NDArray[np.floating[Any]], video: FrameTimes) -> Integers:
        """Frame numbers of the clips that begin at `starts` (N,), in seconds: int64 (N, T)."""
        moments = starts[:, None] + np.arange(self.num_frames)[None, :] * self.step_s
        if self.short_videos == "loop":
            return video.frames_at(video.wrap(moments))
        if self.short_videos == "error" and not video.fits(0.0, self.length_s):
            raise ValueError(
                f"the video lasts {video.end:.3f} s, a clip {self.length_s:.3f} s: "
                "use shorter clips, or short_videos='loop' or 'repeat_last'"
            )
        return video.frames_at(moments)

    def frames_from_starts(self, starts: Integers, video_frames: int, video_fps: float) -> Integers:
        """Frame numbers of the clips that begin at the frames `starts` (N,): int64 (N, T), in [0, video_frames)."""
        indices: Integers = starts[:, None] + self.offsets(video_fps)[None, :]
        if self.short_videos == "loop":
            return np.mod(indices, video_frames)
        if self.short_videos == "error" and indices.max(initial=0) >= video_frames:
            raise ValueError(
                f"the video has {video_frames} frames, a clip spans {self.span(video_fps)}: "
                "use shorter clips, or short_videos='loop' or 'repeat_last'"
            )
        return np.minimum(indices, video_frames - 1)


def floor_positions(positions: NDArray[np.floating[Any]]) -> Integers:
    """Rounds fractional frame positions down to frame numbers, with a tolerance for floating-point error."""
    rounded: Integers = np.floor(positions + _ROUNDING_TOLERANCE).astype(np.int64)
    return rounded
