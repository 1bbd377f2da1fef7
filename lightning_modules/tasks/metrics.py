"""Classification metrics: top-1, top-5 and mean class accuracy; mean average precision and hits of several labels."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from lightning_modules.tasks.average_precision import mean_average_precision
from lightning_modules.tasks.label_task import one_hot


class ClassHits(Metric):
    """Base class of accuracies: counts the videos of each class, and those whose class has the best scores.

    Among equal scores the first class wins; a score that is NaN is above all others. States are sums, so that the
    result is exact if ranks have different numbers of videos. Metrics with equal arguments have equal states, so that a
    `MetricCollection` updates one of them for all. Nothing waits for the device. Labels of -1 do not count: those of
    frames without a label, where frames are counted in the place of videos.

    Args:
        num_classes: K.
        top_k: number of best scores among which a video's class counts as a hit of `near_hits`.
    """

    higher_is_better = True
    full_state_update = False
    hits: Tensor
    near_hits: Tensor
    total: Tensor

    def __init__(self, num_classes: int, top_k: int = 5) -> None:
        super().__init__()
        self.top_k = top_k
        self.add_state("hits", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("near_hits", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Updates the state with a batch: scores or logits float (B, K), labels int64 (B,)."""
        known, labels = labels >= 0, labels.clamp(min=0)
        own, classes = scores.gather(1, labels[:, None]), torch.arange(scores.shape[1], device=scores.device)
        is_better = (scores <= own).logical_not_() | ((scores == own) & (classes < labels[:, None]))
        rank = is_better.sum(dim=1)
        self.hits.index_add_(0, labels, ((rank == 0) & known).long())
        self.near_hits += ((rank < self.top_k) & known).sum()
        self.total.index_add_(0, labels, known.long())


class TopOneAccuracy(ClassHits):
    """Share of the videos whose class has the best score, in [0, 1]."""

    def compute(self) -> Tensor:
        """The share; 0 if there are no videos."""
        return self.hits.sum() / self.total.sum().clamp(min=1)


class TopKAccuracy(ClassHits):
    """Share of the videos whose class is among the `top_k` best scores, in [0, 1]."""

    def compute(self) -> Tensor:
        """The share; 0 if there are no videos."""
        return self.near_hits / self.total.sum().clamp(min=1)


class MeanClassAccuracy(ClassHits):
    """Mean over classes of the fraction of a class's videos that are classified correctly, in [0, 1].

    Classes without videos in the split do not count, even if predicted; torchmetrics' macro accuracy counts them as 0
    once they are predicted.
    """

    def compute(self) -> Tensor:
        """The mean over the classes that have videos; 0 if none has."""
        shares = self.hits / self.total.clamp(min=1)
        return shares.sum() / (self.total > 0).sum().clamp(min=1)


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
        """Updates the state with a batch: scores float (B, K), labels (B, K), 1 or 0; rows of -1 do not count."""
        self.scores.append(scores.float())
        self.labels.append(labels.to(torch.int8))

    def sync(self, *args: Any, **kwargs: Any) -> None:
        """Gathers the states of all ranks; a rank without videos takes part with tensors of the same type."""
        if not self.scores:
            self.scores = [torch.empty((0, self.num_classes), device=self.device)]
            self.labels = [torch.empty((0, self.num_classes), dtype=torch.int8, device=self.device)]
        super().sync(*args, **kwargs)

    def compute(self) -> Tensor:
        """The mean over the classes that have a positive; 0 if none has."""
        if not len(self.scores):
            return torch.zeros((), device=self.device)
        scores, labels = _joined(self.scores), _joined(self.labels)
        known = (labels >= 0).all(dim=1)
        scores, labels = scores[known], labels[known]
        return mean_average_precision(scores, labels).float()


class FrameAveragePrecision(MeanAveragePrecision):
    """Mean average precision of frames with one class each, in [0, 1]: of the ranking of all frames by each class."""

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Updates the state with frames: scores float (M, K), labels int64 (M,), -1 for frames that do not count."""
        rows = one_hot(labels.clamp(min=0), self.num_classes).to(torch.int8)
        super().update(scores, torch.where(labels[:, None] >= 0, rows, -1))


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
    metrics: dict[str, Metric | MetricCollection] = {
        "top1": TopOneAccuracy(num_classes),
        "top5": TopKAccuracy(num_classes),
        "mean_class_accuracy": MeanClassAccuracy(num_classes),
    }
    return MetricCollection(metrics, prefix=f"{prefix}/", compute_groups=[list(metrics)])


def frame_metrics(num_classes: int, prefix: str) -> MetricCollection:
    """`classification_metrics` of frames, (M, K) and (M,), and their mean_average_precision."""
    collection = classification_metrics(num_classes, prefix)
    accuracies: dict[str, Metric | MetricCollection] = dict(collection.items(keep_base=True, copy_state=False))
    average_precision = {"mean_average_precision": FrameAveragePrecision(num_classes)}
    groups = [list(accuracies), list(average_precision)]
    return MetricCollection(accuracies | average_precision, prefix=f"{prefix}/", compute_groups=groups)
