"""k-nearest-neighbor classifier by cosine: a quick look at features that needs no fitting."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.linear.feature_blocks import FeatureRows

_TEST_ROWS_PER_BATCH = 1024


def nearest_neighbor_scores(
    train: FeatureRows, labels: NDArray[np.integer], test: FeatureRows, num_classes: int, neighbors: int
) -> NDArray[np.float32]:
    """The share of each class among the nearest neighbors, each weighted by its cosine, negative ones by 0.

    Args:
        train: M training rows, L2-normalized; read once for every 1024 test rows.
        labels: int64 (M,), class numbers in [0, K); or (M, K), 1 where the video has the class.
        test: N test rows, L2-normalized.
        num_classes: number of classes, K.
        neighbors: number of neighbors; where it is above M, all M rows vote.

    Returns:
        float32 (N, K), in [0, 1]; rows sum to 1 where each video has one class (0 where no neighbor has a cosine above
        0).
    """
    classes = torch.from_numpy(labels)
    targets = classes.float() if classes.ndim == 2 else F.one_hot(classes, num_classes).float()
    scores = [torch.empty(0, num_classes)]
    for _, block in test.blocks():
        for batch in torch.split(block, _TEST_ROWS_PER_BATCH):
            cosines, rows = _nearest_rows(train, batch, min(neighbors, len(train)))
            shares = cosines.clamp(min=0)
            shares = shares / shares.sum(1, keepdim=True).clamp(min=1e-12)
            scores.append((shares[:, None] @ targets[rows])[:, 0])
    return torch.cat(scores).numpy()


def _nearest_rows(train: FeatureRows, test: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Cosines and row numbers of the nearest rows of `train`, both (B, count), the nearest first."""
    best, nearest_rows = torch.empty(len(test), 0), torch.empty(len(test), 0, dtype=torch.int64)
    for first, block in train.blocks():
        cosines = torch.cat([best, test @ block.T], dim=1)
        numbers = torch.cat([nearest_rows, torch.arange(first, first + len(block)).expand(len(test), -1)], dim=1)
        best, positions = cosines.topk(min(count, cosines.shape[1]), dim=1)
        nearest_rows = numbers.gather(1, positions)
    return best, nearest_rows
