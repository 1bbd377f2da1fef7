"""Which frames of a video make which clip: pure integer arithmetic.

A clip is `num_frames` frames, `frame_interval` source frames apart, or taken at `fps` frames a second. Its span is the
number of source frames from its first to its last, both counted. Numbers checked by hand, a video of 10 frames and
clips of 3 frames with interval 2 (span 5):

    uniform_clips, num_clips=3:   [0 2 4]  [2 4 6]  [5 7 9]      starts spread over 0..5
    dense_clips, step=4:          [0 2 4]  [4 6 8]               every start whose clip fits
    a video of 4 frames, loop:    [0 2 0]                        (4 is read as 4 mod 4)
                    repeat_last:  [0 2 3]
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
ShortVideos = Literal["loop", "repeat_last", "error"]


@dataclass(frozen=True)
class ClipShape:
    """What a clip is, in source frames or in time.

    Attributes:
        num_frames: frames of a clip, T.
        frame_interval: source frames from one frame of the clip to the next, where `fps` is None.
        fps: frames a second of video time; the nearest earlier source frame is taken.
        short_videos: what to do where the video is shorter than the span: `loop` starts again from its first frame,
            `repeat_last` holds its last frame, `error` raises ValueError.
    """

    num_frames: int
    frame_interval: int = 1
    fps: float | None = None
    short_videos: ShortVideos = "loop"

    def __post_init__(self) -> None:
        for name in ("num_frames", "frame_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least 1")
        if self.fps is not None and self.fps <= 0:
            raise ValueError(f"fps={self.fps}: must be above 0")

    def offsets(self, video_fps: float) -> Integers:
        """Frames of a clip counted from its first one: int64 (T,)."""
        interval = self.frame_interval if self.fps is None else video_fps / self.fps
        # A hair above, so that 30 / 10 * 3 = 8.999... still means 9.
        offsets: Integers = np.floor(np.arange(self.num_frames) * interval + 1e-6).astype(np.int64)
        return offsets

    def span(self, video_fps: float) -> int:
        """Source frames from the first to the last frame of a clip, both counted."""
        return int(self.offsets(video_fps)[-1]) + 1

    def _at(self, starts: Integers, video_frames: int, video_fps: float) -> Integers:
        """Frame numbers of the clips that begin at `starts`: int64 (N, T), in [0, video_frames)."""
        indices: Integers = starts[:, None] + self.offsets(video_fps)[None, :]
        if self.short_videos == "loop":
            return np.mod(indices, video_frames)
        if self.short_videos == "error" and indices.max(initial=0) >= video_frames:
            raise ValueError(
                f"the video has {video_frames} frames, a clip spans {self.span(video_fps)}: "
                "use shorter clips, or short_videos='loop' or 'repeat_last'"
            )
        return np.minimum(indices, video_frames - 1)


def random_clips(
    shape: ClipShape, video_frames: int, video_fps: float, generator: np.random.Generator, num_clips: int = 1
) -> Integers:
    """Clips that start anywhere they fit, each place equally likely, independent of each other (training).

    Returns:
        int64 (num_clips, T) frame numbers in [0, video_frames).
    """
    last_start = max(0, video_frames - shape.span(video_fps))
    return shape._at(generator.integers(0, last_start + 1, size=num_clips), video_frames, video_fps)


def uniform_clips(shape: ClipShape, video_frames: int, video_fps: float, num_clips: int = 1) -> Integers:
    """Clips spread evenly from the first frame to the last; one alone is taken from the middle (testing).

    Returns:
        int64 (num_clips, T) frame numbers in [0, video_frames).
    """
    if num_clips < 1:
        raise ValueError(f"num_clips={num_clips}: must be at least 1")
    last_start = max(0, video_frames - shape.span(video_fps))
    places = np.linspace(0, 1, num_clips) if num_clips > 1 else np.array([0.5])
    return shape._at(np.floor(places * last_start + 1e-6).astype(np.int64), video_frames, video_fps)


def dense_clips(shape: ClipShape, video_frames: int, video_fps: float, step: int) -> Integers:
    """All clips that fit, `step` source frames apart, at least one (feature export).

    C3D exports 16-frame clips with step 8 (Tran et al. 2015, section 4).

    Returns:
        int64 (N, T) frame numbers in [0, video_frames).
    """
    if step < 1:
        raise ValueError(f"step={step}: must be at least 1")
    last_start = max(0, video_frames - shape.span(video_fps))
    return shape._at(np.arange(0, last_start + 1, step), video_frames, video_fps)


@dataclass(frozen=True)
class ClipSampler:
    """One of the three ways to take clips, as plain data that travels to DataLoader workers.

    Attributes:
        shape: what a clip is.
        method: `random`, `uniform` or `dense`.
        num_clips: clips a video, for `random` and `uniform`.
        step: source frames from clip to clip, for `dense`.
        still: each clip repeats its own middle frame: what can be told without motion (a control experiment).
    """

    shape: ClipShape
    method: Literal["random", "uniform", "dense"]
    num_clips: int = 1
    step: int = 8
    still: bool = False

    def __call__(self, video_frames: int, video_fps: float, generator: np.random.Generator) -> Integers:
        """Frame numbers of one video's clips: int64 (N, T) in [0, video_frames)."""
        if self.method == "random":
            clips = random_clips(self.shape, video_frames, video_fps, generator, self.num_clips)
        elif self.method == "uniform":
            clips = uniform_clips(self.shape, video_frames, video_fps, self.num_clips)
        else:
            clips = dense_clips(self.shape, video_frames, video_fps, self.step)
        if self.still:
            middle = self.shape.num_frames // 2
            clips = np.repeat(clips[:, middle : middle + 1], self.shape.num_frames, axis=1)
        return clips
