"""`WindowScorer`: scores the windows of a live stream."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.sampling.clip_sampling import ClipSampler
from lightning_modules import VideoClassifier
from pipeline.classify.frame_timeline import cover_frames
from pipeline.classify.linear_head import LinearHead
from pipeline.classify.video_input import Preprocessing
from pipeline.classify.video_scores import VideoScorer
from pipeline.live_streams.windows import Window


class WindowScorer:
    """Scores windows as `classify` scores videos of their frames; or the new frames of a window, as timelines do.

    A network that labels each frame reads the whole window, and the labels of the frames since the window before are
    averaged. Its state is not carried on from window to window: it learned from clips that begin without one, windows
    may be skipped, and what it reads after a lost connection does not go on.

    Args:
        model: the network, or a linear classifier on a network.
        preprocessing: its preprocessing.
        stride_s: seconds from one window to the next; None: half of a window.
    """

    def __init__(
        self, model: VideoClassifier | LinearHead, preprocessing: Preprocessing, stride_s: float | None = None
    ) -> None:
        self._score = VideoScorer(model)
        self._stride_s, self._clip_frames = stride_s, preprocessing.shape.num_frames
        sampler, interval = preprocessing.sampler, preprocessing.shape.frame_interval
        shape = replace(sampler.shape, frame_interval=1, fps=None)  # the frames of a window are those to take
        step = sampler.step if preprocessing.shape.fps is not None else max(1, sampler.step // interval)
        self._sampler: ClipSampler = replace(sampler, shape=shape, step=step)

    def clips(self, frames: list[Tensor]) -> Tensor:
        """The clips of a window's frames, each uint8 (H, W, C): uint8 (N, T, H, W, C)."""
        numbers = self._sampler(len(frames), 1.0, np.random.default_rng(0))
        if (numbers == numbers[0]).all():
            numbers = numbers[:1]  # a window of one clip
        return torch.stack([torch.stack([frames[number] for number in clip]) for clip in numbers.tolist()])

    def start_s(self, window: Window) -> float:
        """Where in the stream the part of a window begins that is scored, in seconds."""
        length_s = window.end_s - window.start_s
        return window.end_s - length_s * self._num_scored(window) / len(window.frames)

    def _num_scored(self, window: Window) -> int:
        """The number of frames at the end of a window that are scored."""
        if not self._score.labels_frames:
            return len(window.frames)
        length_s = window.end_s - window.start_s
        share = 0.5 if self._stride_s is None else min(1.0, self._stride_s / length_s)
        return max(1, round(share * len(window.frames)))

    def _score_frames(self, frames: list[Tensor]) -> NDArray[np.float32]:
        """The probabilities of each frame, float32 (F, K), by overlapping clips."""
        windows = cover_frames(len(frames), self._clip_frames, self._score.is_causal)
        clips = [torch.stack([frames[place] for place in places])[None] for places in windows.places.tolist()]
        scores = self._score.frames(clips)
        return np.concatenate([of_clip[windows.of_clip(number)[1]] for number, of_clip in enumerate(scores)])

    def __call__(self, window: Window) -> NDArray[np.float32]:
        """The probabilities of a window, or of its new frames: float32 (K,)."""
        if self._score.labels_frames:
            newest: NDArray[np.float32] = self._score_frames(window.frames)[-self._num_scored(window) :].mean(axis=0)
            return newest
        scores: NDArray[np.float32] = self._score([self.clips(window.frames)])[0]
        return scores
