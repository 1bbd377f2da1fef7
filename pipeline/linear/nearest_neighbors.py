"""k-nearest-neighbor classifier by cosine: a quick look at features that needs no fitting."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.linear.feature_blocks import FeatureRows

_ASKED_AT_ONCE = 1024


def nearest_neighbor_scores(
    known: FeatureRows, labels: NDArray[np.int64], asked: FeatureRows, num_classes: int, neighbors: int
) -> NDArray[np.float32]:
    """The share of each class among the nearest neighbors, each weighted by its cosine, negative ones by 0.

    Args:
        known: M training rows, L2-normalized; read once for every 1024 test rows.
        labels: int64 (M,), class numbers in [0, K).
        asked: N test rows, L2-normalized.
        num_classes: number of classes, K.
        neighbors: number of neighbors; where it is above M, all M rows vote.

    Returns:
        float32 (N, K), rows sum to 1 (0 where no neighbor has a cosine above 0).
    """
    classes = torch.from_numpy(labels)
    scores = [torch.empty(0, num_classes)]
    for _, block in asked.blocks():
        for piece in torch.split(block, _ASKED_AT_ONCE):
            cosines, places = _nearest(known, piece, min(neighbors, len(known)))
            votes = torch.zeros(len(piece), num_classes).scatter_add_(1, classes[places], cosines.clamp(min=0))
            scores.append(votes / votes.sum(1, keepdim=True).clamp(min=1e-12))
    return torch.cat(scores).numpy()


def _nearest(known: FeatureRows, asked: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Cosines and row numbers of the nearest rows of `known`, both (B, count), the nearest first."""
    best, places = torch.empty(len(asked), 0), torch.empty(len(asked), 0, dtype=torch.int64)
    for first, block in known.blocks():
        cosines = torch.cat([best, asked @ block.T], dim=1)
        numbers = torch.cat([places, torch.arange(first, first + len(block)).expand(len(asked), -1)], dim=1)
        best, kept = cosines.topk(min(count, cosines.shape[1]), dim=1)
        places = numbers.gather(1, kept)
    return best, places
