"""Average precision: the mean of the precisions at the positives of a ranking, for each class and over classes."""

import torch
from torch import Tensor


def class_average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Average precision of each class, without interpolation: float64 (K,), NaN for a class without a positive.

    The videos are ranked by their score of the class; the average precision is the mean over the class's videos of the
    precision at their rank, as in the evaluation of Charades (Sigurdsson et al. 2016, `Charades_v1_classify.m`). Videos
    of the same score share a rank, the last of them, so that the order of the videos does not matter: the definition
    of scikit-learn's `average_precision_score`.

    Args:
        scores: float (M, K), higher is likelier; any scale. -inf ranks a video last.
        labels: (M, K), 1 where the video has the class, else 0.
    """
    if scores.device.type == "mps":  # which has no float64
        scores, labels = scores.cpu(), labels.cpu()
    if not len(scores):
        return torch.full((scores.shape[1],), torch.nan, dtype=torch.float64, device=scores.device)
    columns = [_one_class(scores[:, number], labels[:, number]) for number in range(scores.shape[1])]
    return torch.stack(columns)


def _one_class(scores: Tensor, labels: Tensor) -> Tensor:
    ranked, order = scores.sort(descending=True)
    positives = labels[order].double().cumsum(0)
    is_last = torch.ones_like(ranked, dtype=torch.bool)  # of the videos of the same score
    is_last[:-1] = ranked[:-1] != ranked[1:]
    found = positives[is_last]
    ranks = torch.nonzero(is_last)[:, 0] + 1
    return (torch.diff(found, prepend=found.new_zeros(1)) * found / ranks).sum() / found[-1]


def mean_average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean of `class_average_precision` over the classes that have a positive: a float64 scalar; 0 if none has.

    Videos without any class are negatives of every class. Arguments as in `class_average_precision`.
    """
    precisions = class_average_precision(scores, labels)
    return precisions.nanmean() if not precisions.isnan().all() else precisions.new_zeros(())
