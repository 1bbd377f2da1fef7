"""Clip sampling: the frame numbers of a video's clips, as integer arithmetic without I/O.

A clip has `num_frames` frames, `frame_interval` source frames apart, or taken at `fps` frames per second. Its span is
the number of source frames from its first to its last, both included. Examples, checked by hand: a video of 10 frames
and clips of 3 frames with interval 2 (span 5):

    uniform_clips, num_clips=3:   [0 2 4]  [2 4 6]  [5 7 9]      starts spread over 0..5
    dense_clips, step=4:          [0 2 4]  [4 6 8]               every start whose clip fits
    whole_video, max_frames=9:    [0 2 4 6 8]                    the whole video, every second frame
                 max_frames=4:    [0 2 4]  [4 6 8]               the fewest equal clips of at most 4 frames
    clips_by_second at 5 fps:     [0 2 4]  [5 7 9]               around 2.5, and around 7.5: from 2.5 - 5 / 2 = 0
    segments:                     in [0, 3.3), [3.3, 6.7), [6.7, 10); in tests, num_clips=1: [1 5 8]
    a video of 4 frames, loop:    [0 2 0]                        (4 is read as 4 mod 4)
                    repeat_last:  [0 2 3]

Where frames are not evenly spaced and clips are taken at a rate, `times` has each frame's presentation time, and the
k-th frame of a clip is the one shown k / fps seconds after the clip's start. By hand: 5 frames shown at 0, 1, 2, 6 and
8 s, the last until 10 s (0.5 frames per second on average), clips of 3 frames at 0.5 per second, 2 s apart:

    uniform_clips, num_clips=2:   [0 2 2]  [2 3 4]               at 0, 2, 4 s and at 4, 6, 8 s
    dense_clips, step=2:          [0 2 2]  [2 2 3]               from frame 2 on: at 2, 4, 6 s; from frame 4: too long
    whole_video, max_frames=9:    [0 2 2 3 4]                    at 0, 2, 4, 6, 8 s
    random_clips                                                 from any time in [0, 6) s, each equally likely
    without `times`, uniform:     [0 1 2]  [2 3 4]               as if all frames were 2 s long
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from datamodules.sampling.clip_shape import ClipShape, Integers, Seconds, ShortVideos, floor_positions
from datamodules.sampling.frame_times import FrameTimes

__all__ = [
    "ClipSampler",
    "ClipShape",
    "Integers",
    "Method",
    "Seconds",
    "ShortVideos",
    "clips_by_second",
    "dense_clips",
    "random_clips",
    "segment_clips",
    "uniform_clips",
    "whole_video",
]

Method = Literal["random", "uniform", "dense", "whole"]


def random_clips(
    shape: ClipShape,
    video_frames: int,
    video_fps: float,
    generator: np.random.Generator,
    num_clips: int = 1,
    times: Seconds | None = None,
) -> Integers:
    """Clips at random positions for training: each position equally likely, independent of each other.

    Args:
        shape: the shape of a clip.
        video_frames: F, number of frames in the video.
        video_fps: average frames per second.
        generator: the source of randomness.
        num_clips: number of clips.
        times: float64 (F,), presentation time of each frame in seconds from the first, ascending; None if evenly
            spaced. Ignored for clips taken by frame number (`fps` None).

    Returns:
        int64 (num_clips, T) frame numbers in [0, video_frames).
    """
    video = shape.frame_times(times, video_frames, video_fps)
    if video is not None:
        return shape.frames_at_times(generator.random(num_clips) * max(0.0, video.end - shape.length_s), video)
    last_start = max(0, video_frames - shape.span(video_fps))
    return shape.frames_from_starts(generator.integers(0, last_start + 1, size=num_clips), video_frames, video_fps)


def uniform_clips(
    shape: ClipShape, video_frames: int, video_fps: float, num_clips: int = 1, times: Seconds | None = None
) -> Integers:
    """Clips evenly spaced from the first frame to the last, for testing; a single clip is taken from the middle.

    With `times` (see `random_clips`) they are evenly spaced in time.

    Returns:
        int64 (num_clips, T) frame numbers in [0, video_frames).
    """
    if num_clips < 1:
        raise ValueError(f"num_clips={num_clips}: must be at least 1")
    positions = np.linspace(0, 1, num_clips) if num_clips > 1 else np.array([0.5])
    video = shape.frame_times(times, video_frames, video_fps)
    if video is not None:
        last_frame_s = min(video.mean_frame_s, shape.step_s)
        return shape.frames_at_times(positions * max(0.0, video.end - shape.length_s - last_frame_s), video)
    last_start = max(0, video_frames - shape.span(video_fps))
    return shape.frames_from_starts(floor_positions(positions * last_start), video_frames, video_fps)


def dense_clips(
    shape: ClipShape, video_frames: int, video_fps: float, step: int, times: Seconds | None = None
) -> Integers:
    """All clips that fit, `step` source frames apart, at least one, for feature export.

    C3D exports 16-frame clips with step 8 (Tran et al. 2015, section 4). With `times` (see `random_clips`) a clip fits
    if its last frame is taken before the video ends.

    Returns:
        int64 (N, T) frame numbers in [0, video_frames).
    """
    if step < 1:
        raise ValueError(f"step={step}: must be at least 1")
    video = shape.frame_times(times, video_frames, video_fps)
    if video is not None:
        starts = video.start_times(np.arange(0, video_frames, step))
        fitting = video.fits(starts, shape.length_s)
        fitting[0] = True
        return shape.frames_at_times(starts[fitting], video)
    last_start = max(0, video_frames - shape.span(video_fps))
    return shape.frames_from_starts(np.arange(0, last_start + 1, step), video_frames, video_fps)


def clips_by_second(shape: ClipShape, video_frames: int, video_fps: float, times: Seconds | None = None) -> Integers:
    """One clip around the middle of each second, shifted to fit into the video; the last second may be a fraction.

    With `times` (see `random_clips`), a clip taken at a rate is centered in time, and a clip taken by frame number has
    as many frames before the middle of its second as after.

    Returns:
        int64 (seconds, T) frame numbers in [0, video_frames); at least one clip.
    """
    if times is not None:
        return _clips_in_time(shape, FrameTimes(times, video_frames, video_fps), video_frames, video_fps)
    seconds = max(1, math.ceil(video_frames / video_fps - 1e-6))
    middles = np.minimum((np.arange(seconds) + 0.5) * video_fps, video_frames)
    last_start = max(0, video_frames - shape.span(video_fps))
    starts = np.clip(floor_positions(middles - shape.span(video_fps) / 2), 0, last_start)
    return shape.frames_from_starts(starts, video_frames, video_fps)


def _clips_in_time(shape: ClipShape, video: FrameTimes, video_frames: int, video_fps: float) -> Integers:
    middles = np.minimum(np.arange(max(1, math.ceil(video.end - 1e-6))) + 0.5, video.end)
    if shape.fps is None:
        span = shape.span(video_fps)
        starts = floor_positions(video.fractional_positions(middles) - span / 2)
        return shape.frames_from_starts(np.clip(starts, 0, max(0, video_frames - span)), video_frames, video_fps)
    length_s = shape.num_frames * shape.step_s
    return shape.frames_at_times(np.clip(middles - length_s / 2, 0, max(0.0, video.end - length_s)), video)


def whole_video(
    shape: ClipShape, video_frames: int, video_fps: float, max_frames: int, times: Seconds | None = None
) -> Integers:
    """The whole video as one clip, for networks that take any number of frames (testing and feature export).

    A video with more than `max_frames` frames at the shape's interval or rate (a bound on memory) gives the fewest
    clips of equal length, evenly spaced, that cover it. A video with fewer than `num_frames` gives one clip of
    `num_frames`, extended by `short_videos`. `times` are as in `random_clips`.

    Returns:
        int64 (N, T) frame numbers in [0, video_frames); T depends on the video, from `num_frames` to `max_frames`.
    """
    if max_frames < shape.num_frames:
        raise ValueError(f"max_frames={max_frames}: must be at least num_frames={shape.num_frames}")
    video = shape.frame_times(times, video_frames, video_fps)
    length_in_frames = video_frames if video is None else video.end * video_fps
    count = math.ceil((length_in_frames - 1e-6) / shape.interval(video_fps))  # k * interval before the end
    if count <= shape.num_frames:
        if video is not None:
            return shape.frames_at_times(np.zeros(1), video)
        return shape.frames_from_starts(np.zeros(1, dtype=np.int64), video_frames, video_fps)
    num_clips = -(-count // max_frames)
    length = max(shape.num_frames, -(-count // num_clips))
    starts = floor_positions(np.linspace(0, count - length, num_clips))
    positions = starts[:, None] + np.arange(length)[None, :]
    if video is not None:
        return video.frames_at(positions * shape.step_s)
    return np.minimum(floor_positions(positions * shape.interval(video_fps)), video_frames - 1)


def segment_clips(
    shape: ClipShape, video_frames: int, generator: np.random.Generator | None, num_clips: int = 1
) -> Integers:
    """Segment sampling: clips of one frame from each of `num_frames` equal parts, at random or at fixed places.

    Args:
        shape: the shape of a clip.
        video_frames: number of frames in the video.
        generator: the source of randomness (training); None spreads the clips evenly over each part (testing): a
            single clip has the parts' middle frames.
        num_clips: number of clips.

    Returns:
        int64 (num_clips, T) frame numbers in [0, video_frames), ascending in each clip.
    """
    if shape.short_videos == "error" and video_frames < shape.num_frames:
        raise ValueError(
            f"the video has {video_frames} frames, a clip takes {shape.num_frames} parts of it: "
            "use fewer, or short_videos='loop' or 'repeat_last'"
        )
    if generator is None:
        positions = np.repeat((np.arange(num_clips)[:, None] + 0.5) / num_clips, shape.num_frames, axis=1)
    else:
        positions = generator.random((num_clips, shape.num_frames))
    parts = np.arange(shape.num_frames)[None, :]
    return np.minimum(floor_positions((parts + positions) * (video_frames / shape.num_frames)), video_frames - 1)


@dataclass(frozen=True)
class ClipSampler:
    """A clip sampling method with its parameters, as plain data that is sent to data loader workers.

    Attributes:
        shape: the shape of a clip.
        method: `random`, `uniform`, `dense` or `whole`.
        num_clips: clips per video, for `random` and `uniform`.
        step: source frames from one clip to the next, for `dense`.
        still: each clip repeats its middle frame, a control experiment that measures accuracy without motion.
        max_frames: maximum number of frames of a clip, for `whole`.
    """

    shape: ClipShape
    method: Method
    num_clips: int = 1
    step: int = 8
    still: bool = False
    max_frames: int = 512

    @property
    def by_time(self) -> bool:
        """Whether the sampled frames depend on presentation times, and not on frame numbers alone."""
        return self.shape.fps is not None and (self.method == "whole" or not self.shape.segments)

    def __call__(
        self, video_frames: int, video_fps: float, generator: np.random.Generator, times: Seconds | None = None
    ) -> Integers:
        """Frame numbers of one video's clips: int64 (N, T) in [0, video_frames).

        Args:
            video_frames: F, number of frames in the video.
            video_fps: average frames per second.
            generator: the source of randomness.
            times: float64 (F,), presentation time of each frame in seconds from the first, ascending; None if evenly
                spaced.
        """
        clips = self._clips(video_frames, video_fps, generator, times)
        if self.still:
            middle = clips.shape[1] // 2
            clips = np.repeat(clips[:, middle : middle + 1], clips.shape[1], axis=1)
        return clips

    def _clips(
        self, video_frames: int, video_fps: float, generator: np.random.Generator, times: Seconds | None
    ) -> Integers:
        if self.method == "whole":
            return whole_video(self.shape, video_frames, video_fps, self.max_frames, times)
        if self.shape.segments:
            chosen = generator if self.method == "random" else None
            return segment_clips(self.shape, video_frames, chosen, self.num_clips)
        if self.method == "random":
            return random_clips(self.shape, video_frames, video_fps, generator, self.num_clips, times)
        if self.method == "uniform":
            return uniform_clips(self.shape, video_frames, video_fps, self.num_clips, times)
        return dense_clips(self.shape, video_frames, video_fps, self.step, times)
