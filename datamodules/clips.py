"""Which frames of a video make which clip: pure integer arithmetic.

A clip is `num_frames` frames, `frame_interval` source frames apart, or taken at `fps` frames a second. Its span is the
number of source frames from its first to its last, both counted. Numbers checked by hand, a video of 10 frames and
clips of 3 frames with interval 2 (span 5):

    uniform_clips, num_clips=3:   [0 2 4]  [2 4 6]  [5 7 9]      starts spread over 0..5
    dense_clips, step=4:          [0 2 4]  [4 6 8]               every start whose clip fits
    whole_video, max_frames=9:    [0 2 4 6 8]                    all of it, every second frame
                 max_frames=4:    [0 2 4]  [4 6 8]               in the fewest equal clips that are no longer
    clips_by_second at 5 fps:     [0 2 4]  [5 7 9]               around 2.5, and around 7.5: from 2.5 - 5 / 2 = 0
    segments:                     one of 0..2, of 3..5 and of 6..9; in tests, num_clips=1: [1 5 8]
    a video of 4 frames, loop:    [0 2 0]                        (4 is read as 4 mod 4)
                    repeat_last:  [0 2 3]
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
ShortVideos = Literal["loop", "repeat_last", "error"]
Method = Literal["random", "uniform", "dense", "whole"]


@dataclass(frozen=True)
class ClipShape:
    """What a clip is, in source frames or in time.

    Attributes:
        num_frames: frames of a clip, T.
        frame_interval: source frames from one frame of the clip to the next, where `fps` is None.
        fps: frames a second of video time; the nearest earlier source frame is taken.
        short_videos: what to do where the video is shorter than the span: `loop` starts again from its first frame,
            `repeat_last` holds its last frame, `error` raises ValueError.
        segments: a clip is one frame of each of `num_frames` equal parts of the video, instead of neighbors
            (TSN, Wang et al. 2016, section 3.1, with snippets of one frame). `frame_interval` and `fps` then mean
            nothing, and a video with fewer frames than parts shows some twice, in order.
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
        """Source frames from one frame of a clip to the next."""
        return self.frame_interval if self.fps is None else video_fps / self.fps

    def offsets(self, video_fps: float) -> Integers:
        """Frames of a clip counted from its first one: int64 (T,)."""
        return _floor(np.arange(self.num_frames) * self.interval(video_fps))

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
    return shape._at(_floor(places * last_start), video_frames, video_fps)


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


def clips_by_second(shape: ClipShape, video_frames: int, video_fps: float) -> Integers:
    """A clip around the middle of each second, as far as it fits into the video; the last second may be a part of one.

    Returns:
        int64 (seconds, T) frame numbers in [0, video_frames); at least one clip.
    """
    seconds = max(1, math.ceil(video_frames / video_fps - 1e-6))
    middles = np.minimum((np.arange(seconds) + 0.5) * video_fps, video_frames)
    last_start = max(0, video_frames - shape.span(video_fps))
    starts = np.clip(_floor(middles - shape.span(video_fps) / 2), 0, last_start)
    return shape._at(starts, video_frames, video_fps)


def whole_video(shape: ClipShape, video_frames: int, video_fps: float, max_frames: int) -> Integers:
    """All of a video as one clip, for networks that take any number of frames (tests and feature export).

    A video with more frames at the shape's interval or rate than `max_frames`, which bounds memory, gives the fewest
    clips of one length, spread evenly, that show all of it. A video with fewer than `num_frames` gives one clip of
    `num_frames`, made by `short_videos`.

    Returns:
        int64 (N, T) frame numbers in [0, video_frames); T is the video's own, from `num_frames` to `max_frames`.
    """
    if max_frames < shape.num_frames:
        raise ValueError(f"max_frames={max_frames}: must be at least num_frames={shape.num_frames}")
    count = math.ceil((video_frames - 1e-6) / shape.interval(video_fps))  # frames k with k * interval < video_frames
    if count <= shape.num_frames:
        return shape._at(np.zeros(1, dtype=np.int64), video_frames, video_fps)
    num_clips = -(-count // max_frames)
    length = max(shape.num_frames, -(-count // num_clips))
    starts = _floor(np.linspace(0, count - length, num_clips))
    places = starts[:, None] + np.arange(length)[None, :]
    return np.minimum(_floor(places * shape.interval(video_fps)), video_frames - 1)


def segment_clips(
    shape: ClipShape, video_frames: int, generator: np.random.Generator | None, num_clips: int = 1
) -> Integers:
    """Clips of one frame of each of `num_frames` equal parts of a video: anywhere in it, or at fixed places.

    Args:
        shape: a clip.
        video_frames: frames of the video.
        generator: where the places come from (training); None spreads the clips' places evenly over each part
            (tests): one clip alone has the parts' middles.
        num_clips: clips to take.

    Returns:
        int64 (num_clips, T) frame numbers in [0, video_frames), ascending in each clip.
    """
    if shape.short_videos == "error" and video_frames < shape.num_frames:
        raise ValueError(
            f"the video has {video_frames} frames, a clip takes {shape.num_frames} parts of it: "
            "use fewer, or short_videos='loop' or 'repeat_last'"
        )
    if generator is None:
        places = np.repeat((np.arange(num_clips)[:, None] + 0.5) / num_clips, shape.num_frames, axis=1)
    else:
        places = generator.random((num_clips, shape.num_frames))
    parts = np.arange(shape.num_frames)[None, :]
    return np.minimum(_floor((parts + places) * (video_frames / shape.num_frames)), video_frames - 1)


@dataclass(frozen=True)
class ClipSampler:
    """One of the ways to take clips, as plain data that travels to DataLoader workers.

    Attributes:
        shape: what a clip is.
        method: `random`, `uniform`, `dense` or `whole`.
        num_clips: clips a video, for `random` and `uniform`.
        step: source frames from clip to clip, for `dense`.
        still: each clip repeats its own middle frame: what can be told without motion (a control experiment).
        max_frames: bound on the frames of a clip, for `whole`.
    """

    shape: ClipShape
    method: Method
    num_clips: int = 1
    step: int = 8
    still: bool = False
    max_frames: int = 512

    def __call__(self, video_frames: int, video_fps: float, generator: np.random.Generator) -> Integers:
        """Frame numbers of one video's clips: int64 (N, T) in [0, video_frames)."""
        clips = self._clips(video_frames, video_fps, generator)
        if self.still:
            middle = clips.shape[1] // 2
            clips = np.repeat(clips[:, middle : middle + 1], clips.shape[1], axis=1)
        return clips

    def _clips(self, video_frames: int, video_fps: float, generator: np.random.Generator) -> Integers:
        if self.method == "whole":
            return whole_video(self.shape, video_frames, video_fps, self.max_frames)
        if self.shape.segments:
            chosen = generator if self.method == "random" else None
            return segment_clips(self.shape, video_frames, chosen, self.num_clips)
        if self.method == "random":
            return random_clips(self.shape, video_frames, video_fps, generator, self.num_clips)
        if self.method == "uniform":
            return uniform_clips(self.shape, video_frames, video_fps, self.num_clips)
        return dense_clips(self.shape, video_frames, video_fps, self.step)


def _floor(places: NDArray[np.floating[Any]]) -> Integers:
    # A hair above, so that 30 / 10 * 3 = 8.999... still means 9.
    rounded: Integers = np.floor(places + 1e-6).astype(np.int64)
    return rounded
