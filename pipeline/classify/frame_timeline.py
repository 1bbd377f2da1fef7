"""Timelines by networks that label each frame: every frame once, by the clip in which it has the most context."""

from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.optical_flow.frame_source import FrameSource, num_clip_frames
from datamodules.sampling.clip_sampling import Integers, Seconds, whole_video
from datamodules.video.decoding import VideoInfo
from pipeline.classify.video_input import Preprocessing, VideoClips

_ALL_FRAMES = 2**31  # of a video as one clip


class FrameWindows(NamedTuple):
    """Overlapping clips that cover a sequence of frames, and the frames whose labels are taken from each.

    Attributes:
        places: int64 (N, T), places of each clip's frames in the sequence; those after its end repeat it.
        bounds: int64 (N + 1,), clip n gives the labels of the places from `bounds[n]` to before `bounds[n + 1]`.
    """

    places: Integers
    bounds: Integers

    def of_clip(self, number: int) -> tuple[slice, slice]:
        """The places whose labels a clip gives, and where they are in the clip."""
        first, last = self.bounds[number], self.bounds[number + 1]
        start = self.places[number, 0]
        return slice(first, last), slice(first - start, last - start)


def cover_frames(count: int, num_frames: int, is_causal: bool) -> FrameWindows:
    """Covers a sequence of frames by clips that overlap by half.

    The labels of a frame are those of the clip in which most frames lie before it, for a network that looks back alone;
    or else in which it is nearest to the middle. By hand, 6 frames and clips of 4: clips 0 1 2 3 and 2 3 4 5; if
    causal, the first gives frames 0 to 3 and the second 4 and 5, else the first gives 0 to 2 and the second 3 to 5.

    Args:
        count: number of frames of the sequence, at least 1.
        num_frames: T, frames of a clip.
        is_causal: whether the labels of a frame depend on no later one.
    """
    last_start = max(0, count - num_frames)
    starts = np.unique(np.append(np.arange(0, last_start, max(1, num_frames // 2)), last_start))
    places = np.minimum(starts[:, None] + np.arange(num_frames), count - 1)
    middles = (starts[:-1] + starts[1:] + num_frames) // 2  # between the middles of a clip and the next
    changes = starts[:-1] + num_frames if is_causal else middles
    return FrameWindows(places, np.concatenate([[0], changes, [count]]).astype(np.int64))


class SecondMeans:
    """Means of the scores of frames over the second in which each begins.

    Args:
        seconds: int64 (F,), the second of each frame, ascending, in [0, S).
        num_seconds: S.
    """

    def __init__(self, seconds: Integers, num_seconds: int) -> None:
        self._seconds, self._num_seconds = seconds, num_seconds
        self._sums: NDArray[np.float64] | None = None

    def add(self, frames: slice, scores: NDArray[np.float32]) -> None:
        """Adds the scores of some frames, float32 (F, K); each frame once."""
        if self._sums is None:
            self._sums = np.zeros((self._num_seconds, scores.shape[1]))
        np.add.at(self._sums, self._seconds[frames], scores)

    def means(self) -> NDArray[np.float32]:
        """The means, float32 (S, K); a second in which no frame begins has those of the frame that is still shown."""
        assert self._sums is not None, "a video has a frame"
        counts = np.bincount(self._seconds, minlength=self._num_seconds)
        shown = np.maximum.accumulate(np.where(counts > 0, np.arange(self._num_seconds), 0))
        means: NDArray[np.float32] = (self._sums[shown] / counts[shown, None]).astype(np.float32)
        return means


class FrameClips(NamedTuple):
    """The clips of a timeline by frames, before they are decoded.

    Attributes:
        clips: the clips.
        windows: which frames of the video each of them labels.
        seconds: int64 (F,), the second in which each frame begins.
        num_seconds: S, seconds of the video.
    """

    clips: VideoClips
    windows: FrameWindows
    seconds: Integers
    num_seconds: int

    def means(self, clip_scores: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """The scores of the seconds, float32 (S, K), from those of the frames of each clip, (T, K)."""
        means = SecondMeans(self.seconds, self.num_seconds)
        for number, scores in enumerate(clip_scores):
            frames, inside = self.windows.of_clip(number)
            means.add(frames, scores[inside])
        return means.means()


def plan_frames(
    preprocessing: Preprocessing, source: FrameSource, info: VideoInfo, times: Seconds | None, is_causal: bool
) -> FrameClips:
    """Chooses clips that cover a video, at the frame rate of the network.

    Args:
        preprocessing: the preprocessing of the network.
        source: the bytes of the video file, or its path; or a video with its flow.
        info: its properties.
        times: when its frames are shown, in seconds; None if evenly spaced.
        is_causal: whether the labels of a frame depend on no later one.
    """
    count = num_clip_frames(info.num_frames, preprocessing.stream)
    single = replace(preprocessing.shape, num_frames=1)
    numbers = whole_video(single, count, info.fps, _ALL_FRAMES, None if times is None else times[:count])[0]
    windows = cover_frames(len(numbers), preprocessing.shape.num_frames, is_causal)
    moments = numbers / info.fps if times is None else times[numbers]
    num_seconds = max(1, int(np.ceil(info.num_frames / info.fps - 1e-6)))
    seconds = np.minimum(np.floor(moments + 1e-6).astype(np.int64), num_seconds - 1)
    return FrameClips(VideoClips(source, numbers[windows.places], preprocessing), windows, seconds, num_seconds)
