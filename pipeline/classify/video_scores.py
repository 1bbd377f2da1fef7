"""`VideoScorer`: scores videos from their clips, several short videos together, a long one in pieces."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.batch import ClipBatch
from lightning_modules import VideoClassifier
from lightning_modules.layers.execution_options import use_channels_last
from pipeline.classify.linear_head import LinearHead
from pipeline.processes.compute_device import forward_bytes


class VideoScorer:
    """Computes class scores of videos, on a GPU where there is one.

    Args:
        model: the network, or a linear classifier on a network.

    Attributes:
        device: where they are computed.
    """

    def __init__(self, model: VideoClassifier | LinearHead) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = model.to(self.device)
        if self.device.type == "cuda":
            use_channels_last(self._model)

    def __call__(self, videos: Sequence[Tensor]) -> NDArray[np.float32]:
        """Scores V videos by their clips, each uint8 (N, T, H, W, C): float32 (V, K).

        If all clips have the same shape (T, H, W, C), the videos go through the network together.
        """
        if len({clips.shape[1:] for clips in videos}) == 1:
            return self._score_batch(videos)
        return np.concatenate([self._score_batch([clips]) for clips in videos])

    @property
    def labels_frames(self) -> bool:
        """Whether the network labels each frame, see `frames`."""
        return isinstance(self._model, VideoClassifier) and self._model.labels_frames

    @property
    def is_causal(self) -> bool:
        """Whether the labels of a frame depend on no later one."""
        return isinstance(self._model, VideoClassifier) and self._model.is_causal

    def frames(self, clips: Sequence[Tensor]) -> NDArray[np.float32]:
        """Scores of the frames of N clips, each uint8 (1, T, H, W, C): float32 (N, T, K)."""
        assert isinstance(self._model, VideoClassifier), "a linear classifier labels videos"
        with torch.inference_mode():
            scores: NDArray[np.float32] = self._model.frame_scores(self._batch(clips)).float().cpu().numpy()
        return scores

    def score_pieces(self, pieces: Iterable[Tensor]) -> NDArray[np.float32]:
        """Scores one video whose clips are given in pieces, each uint8 (N, T, H, W, C): float32 (K,).

        The result is that of all clips together, but only one piece is in memory at a time.
        """
        total, views = torch.zeros(1, dtype=torch.float64), 0
        with torch.inference_mode():
            for clips in pieces:
                total = total + len(clips) * self._model.view_means(self._batch([clips]))[0].double().cpu()
                views += len(clips)
            means = (total / views).float()[None].to(self.device)
            scores: NDArray[np.float32] = self._model.scores_of(means)[0].float().cpu().numpy()
        return scores

    def _score_batch(self, videos: Sequence[Tensor]) -> NDArray[np.float32]:
        with torch.inference_mode():
            scores: NDArray[np.float32] = self._model.video_scores(self._batch(videos)).float().cpu().numpy()
        return scores

    def _batch(self, videos: Sequence[Tensor]) -> ClipBatch:
        self._model.views_at_once = max(1, forward_bytes(self.device) // (4 * videos[0][0].numel()))
        batch = ClipBatch.from_clips_of_videos(videos)
        return batch.to(self.device)
