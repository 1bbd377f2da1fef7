"""`VideoScores`: from the clips of a batch to the class scores of its videos, averaged over views."""

from typing import Literal

import torch
from torch import Tensor

from datamodules.batch import ClipBatch
from lightning_modules.tasks.label_task import Task
from lightning_modules.tasks.video_network import VideoNetwork


class VideoScores(VideoNetwork):
    """Base class of `VideoClassifier`: logits of clips or of their frames, and the scores of videos made of them.

    Attributes:
        task: what the labels are, and with them the scores: `single_label` or `multi_label`.
        labels_frames: whether logits are of each frame, (N, T, K), and not of clips; see `label_frames`.
        is_causal: whether those of a frame depend on no later one.
        view_average: what is averaged over a video's views: `probabilities`, or `logits`, with the softmax or sigmoid
            afterwards.
        views_at_once: maximum number of views in one forward pass of a test, which bounds memory; None computes all
            views of a batch at once.
    """

    task: Task
    labels_frames: bool = False
    is_causal: bool = False
    view_average: Literal["probabilities", "logits"] = "probabilities"
    views_at_once: int | None = None

    def clip_logits(self, x: Tensor) -> Tensor:
        """Logits of clips: normalized float (N, C, T, H, W) to (N, K), or of their frames, (N, T, K)."""
        logits: Tensor = self.stages(x)
        return logits

    def forward(self, batch: ClipBatch) -> Tensor:
        """Logits of the clips of a batch: (N, K), or of their frames, (N, T, K)."""
        return self.clip_logits(self.normalize(batch))

    def video_scores(self, batch: ClipBatch) -> Tensor:
        """Class probabilities of the videos of a batch, averaged over their views: float32 (B, K)."""
        if batch.num_videos == 0:
            return self.mean.new_zeros((0, self.num_classes))
        return self.scores_of(self.view_means(batch))

    def view_means(self, batch: ClipBatch) -> Tensor:
        """Means over the views of each of B videos, float32 (B, K), of probabilities or logits (`view_average`).

        Means of parts of a video, weighted by their numbers of views, average to the video's; `scores_of` converts
        them to scores.
        """
        scores = self._view_logits(batch)
        if self.view_average == "probabilities":
            scores = self.probabilities(scores)
        return average_views(batch, scores.mean(dim=1) if self.labels_frames else scores)

    def frame_scores(self, batch: ClipBatch) -> Tensor:
        """Class probabilities of the frames of each view, float32 (N, T, K), of a network that `labels_frames`."""
        return self.probabilities(self._view_logits(batch))

    def scores_of(self, means: Tensor) -> Tensor:
        """Class probabilities, float32 (B, K), from `view_means`."""
        return self.probabilities(means) if self.view_average == "logits" else means

    def probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities of logits, (..., K): their softmax, or with several labels a video their sigmoid."""
        return logits.sigmoid() if self.task == "multi_label" else logits.softmax(dim=-1)

    def _view_logits(self, batch: ClipBatch) -> Tensor:
        """Logits of all views: float32 (N, K) or (N, T, K), computed at most `views_at_once` views at a time."""
        pieces = torch.split(batch.clips, self.views_at_once or max(1, len(batch.clips)))
        return torch.cat([self(batch._replace(clips=piece)).float() for piece in pieces])


def average_views(batch: ClipBatch, rows: Tensor) -> Tensor:
    """Means over the views of each of B videos, float (B, D), of the rows of the batch's clips, float (N, D)."""
    sums = rows.new_zeros((batch.num_videos, rows.shape[1]))
    return sums.index_add_(0, batch.video_index, rows) / batch.views_per_video[:, None]
