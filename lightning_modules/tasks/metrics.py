"""Classification metrics: top-1, top-5 and mean class accuracy; mean average precision and hits of several labels."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from lightning_modules.tasks.average_precision import mean_average_precision


class MeanClassAccuracy(Metric):
    """Mean over classes of the fraction of a class's videos that are classified correctly, in [0, 1].

    Classes without videos in the split do not count, even if predicted; torchmetrics' macro accuracy counts them as 0
    once they are predicted. States are sums, so that the result is exact if ranks have different numbers of videos.

    Args:
        num_classes: K.
    """

    higher_is_better = True
    full_state_update = False
    correct: Tensor
    total: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.add_state("correct", torch.zeros(num_classes), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(num_classes), dist_reduce_fx="sum")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Updates the state with a batch: scores float (B, K), labels int64 (B,)."""
        correct = (scores.argmax(dim=1) == labels).to(self.correct.dtype)
        self.correct.index_add_(0, labels, correct)
        self.total.index_add_(0, labels, torch.ones_like(correct))

    def compute(self) -> Tensor:
        """The mean over the classes that have videos; 0 if none has."""
        has_videos = self.total > 0
        if not has_videos.any():
            return torch.zeros((), device=self.total.device)
        return (self.correct[has_videos] / self.total[has_videos]).mean()


class MeanAveragePrecision(Metric):
    """Mean average precision of several labels a video (`mean_average_precision`), in [0, 1].

    Average precision is not a sum over videos: the states are the scores and labels of all of them, 5 bytes a video and
    class on every rank, and the result is exact if ranks have different numbers of videos, or none.

    Args:
        num_classes: K.
    """

    higher_is_better = True
    full_state_update = False
    scores: list[Tensor]
    labels: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state("scores", [], dist_reduce_fx="cat")
        self.add_state("labels", [], dist_reduce_fx="cat")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Updates the state with a batch: scores float (B, K), labels (B, K), 1 or 0."""
        self.scores.append(scores.float())
        self.labels.append(labels.to(torch.uint8))

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gathers the states of all ranks; a rank without videos takes part with tensors of the same type."""
        if not self.scores:
            self.scores = [torch.empty((0, self.num_classes), device=self.device)]
            self.labels = [torch.empty((0, self.num_classes), dtype=torch.uint8, device=self.device)]
        super().sync(*args, **kwargs)

    def compute(self) -> Tensor:
        """The mean over the classes that have a positive; 0 if none has."""
        if not len(self.scores):
            return torch.zeros((), device=self.device)
        scores, labels = _joined(self.scores), _joined(self.labels)
        return mean_average_precision(scores, labels).float()


def _joined(state: list[Tensor] | Tensor) -> Tensor:
    """The tensors of a list state, which are one tensor after the ranks were gathered, along the axis of videos."""
    return state if isinstance(state, Tensor) else torch.cat(state)


class TopOneHit(Metric):
    """Share of the videos whose best-scored class is among their labels, in [0, 1]; the first among equal scores.

    Videos without a label do not count. States are sums, so that the result is exact if ranks have different numbers of
    videos.
    """

    higher_is_better = True
    full_state_update = False
    hits: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("hits", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Updates the state with a batch: scores float (B, K), labels (B, K), 1 or 0."""
        best = scores.argmax(dim=1, keepdim=True)
        self.hits += (labels.gather(1, best) > 0).sum()
        self.total += (labels > 0).any(dim=1).sum()

    def compute(self) -> Tensor:
        """The share of hits; 0 if no video has a label."""
        return self.hits / self.total.clamp(min=1)


def multi_label_metrics(num_classes: int, prefix: str) -> MetricCollection:
    """mean_average_precision and top1_hit of scores (B, K) and labels (B, K), with the names `{prefix}/...`."""
    return MetricCollection(
        {"mean_average_precision": MeanAveragePrecision(num_classes), "top1_hit": TopOneHit()},
        prefix=f"{prefix}/",
        compute_groups=False,
    )


def classification_metrics(num_classes: int, prefix: str) -> MetricCollection:
    """top1, top5 and mean_class_accuracy of scores (B, K) and labels (B,), with the names `{prefix}/...`.

    With fewer than five classes, top5 is the top-K accuracy, which is 1.
    """
    return MetricCollection(
        {
            "top1": MulticlassAccuracy(num_classes, average="micro"),
            "top5": MulticlassAccuracy(num_classes, top_k=min(5, num_classes), average="micro"),
            "mean_class_accuracy": MeanClassAccuracy(num_classes),
        },
        prefix=f"{prefix}/",
    )
