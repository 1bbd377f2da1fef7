"""Classification metrics: top-1, top-5 and mean class accuracy."""

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy


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
