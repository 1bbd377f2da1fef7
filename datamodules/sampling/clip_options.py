"""Options of clips: which frames make a clip, and how many clips of a video are taken.

What training sets and a later evaluation may set otherwise is documented once, in a class whose fields are None where
they are not set; the class of training narrows these fields to their defaults.
"""

from dataclasses import dataclass
from typing import Literal

from datamodules.batch import STREAM_CHANNELS, Stream
from datamodules.options import Options
from datamodules.sampling.clip_shape import ClipShape, ShortVideos

TestSampling = Literal["uniform", "dense", "whole"]


@dataclass(frozen=True, kw_only=True)
class ClipOverrides(Options):
    """Frames of a clip.

    As in training, where nothing is said.

    Attributes:
        num_frames: frames of a clip, T.
        frame_interval: source frames from one frame of a clip to the next.
        fps: take frames at this rate instead of `frame_interval`.
        short_videos: what to do with a video shorter than a clip: `loop`, `repeat_last` or `error`.
        still: every clip repeats one of its frames: a control for what can be told without motion.
    """

    num_frames: int | None = None
    frame_interval: int | None = None
    fps: float | None = None
    short_videos: ShortVideos | None = None
    still: bool | None = None


@dataclass(frozen=True, kw_only=True)
class ClipOptions(ClipOverrides):
    """Frames of a clip.

    Attributes:
        segments: a clip is one frame of each of `num_frames` equal parts of the video, a random one in training (TSN).
        stream: what the frames are: `rgb`; `flow`, the optical flow from a frame to the next one of the video, of
            datasets packed with --flow; or `both`, for two-stream networks.
    """

    num_frames: int = 16
    frame_interval: int = 1
    short_videos: ShortVideos = "loop"
    segments: bool = False
    still: bool = False
    stream: Stream = "rgb"

    def check(self) -> None:
        """Refuses what no clip can have."""
        if self.stream not in STREAM_CHANNELS:
            raise ValueError(f"stream={self.stream!r}: must be {', '.join(STREAM_CHANNELS)}")
        if self.still and self.stream != "rgb":
            raise ValueError(
                f"still=true, stream={self.stream!r}: a control without motion has no flow; give stream=rgb"
            )
        self.clip_shape()

    def clip_shape(self) -> ClipShape:
        """What a clip is, for the samplers."""
        return ClipShape(self.num_frames, self.frame_interval, self.fps, self.short_videos, self.segments)


@dataclass(frozen=True, kw_only=True)
class ViewOverrides(Options):
    """Views of a video that are scored or exported.

    Attributes:
        num_clips: clips a video, spread evenly.
        clip_step: take clips this many source frames apart instead of `num_clips`. C3D's paper has 8, for clips of 16
            frames.
        max_frames: for whole videos, frames of a clip at most, which bounds memory: a longer video gives several,
            evenly.
        num_crops: spatial crops a clip: 1, the center, or 3 along the longer side. `num_clips * num_crops` views are
            averaged.
    """

    num_clips: int | None = None
    clip_step: int | None = None
    max_frames: int = 512
    num_crops: Literal[1, 3] | None = None

    def check(self) -> None:
        """Refuses numbers that take no clip or no frame."""
        self.require_at_least(1, "num_clips", "clip_step", "max_frames")


@dataclass(frozen=True, kw_only=True)
class ViewOptions(ViewOverrides):
    """Views of a video.

    Attributes:
        clips_per_video: in training, clips taken from one reading of a video.
        val_num_clips: clips a video in validation.
        test_sampling: clips of tests and of prediction: `uniform`, `num_clips` spread evenly; `dense`, `clip_step`
            apart; `whole`, all of the video as one clip, for networks that take any number of frames.
    """

    clips_per_video: int = 1
    val_num_clips: int = 1
    test_sampling: TestSampling = "uniform"
    num_clips: int = 10
    num_crops: Literal[1, 3] = 1

    def check(self) -> None:
        """Refuses numbers that take no clip, and two ways to take clips at once."""
        self.require_at_least(1, "clips_per_video", "val_num_clips")
        if self.test_sampling == "dense" and self.clip_step is None:
            raise ValueError("test_sampling='dense': set clip_step, the source frames from clip to clip")
        if self.test_sampling == "whole" and self.clip_step is not None:
            raise ValueError(f"test_sampling='whole', clip_step={self.clip_step}: give one of them")
