"""`MultiLabelFitter`: linear classifiers of several labels a video, each class against the rest."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.linear.classifiers import (
    ABSENT_CLASS_BIAS,
    ClassifierFitter,
    ClassWeight,
    LinearClassifier,
    LinearName,
)
from pipeline.linear.feature_blocks import FeatureRows
from pipeline.linear.lbfgs import ObjectiveValue, SecondMoments, minimize
from pipeline.linear.row_space import RowSpace


class IndependentClasses:
    """K functions, one a class, with y_i = 1 for the rows of the class and -1 for all others.

    `svm`: |w|^2 / 2 + C sum of c_i max(0, 1 - y_i (w x_i + b))^2, the bias being part of w in the penalty, as in
    sklearn's LinearSVC. `logistic`: |w|^2 / 2 + C sum of c_i log(1 + exp(-y_i (w x_i + b))), as in sklearn's
    LogisticRegression of two classes; biases are not penalized.

    Args:
        kind: `svm` or `logistic`.
        rows: M rows of features.
        targets: bool (M, K), the classes of each row.
        c: inverse of the penalty's strength, above 0.
        weights: float64 (2, K), the weights of the rows outside and inside of each class.
    """

    num_classes = 1

    def __init__(self, kind: LinearName, rows: FeatureRows, targets: Tensor, c: float, weights: Tensor) -> None:
        self._kind, self._rows, self._targets, self._c, self._weights = kind, rows, targets, c, weights
        self.num_functions = targets.shape[1]

    def __call__(self, points: Tensor, indices: Tensor) -> ObjectiveValue:
        """See `Objective`."""
        loss, curvature = (torch.zeros(len(indices), dtype=torch.float64) for _ in range(2))
        gradient = torch.zeros_like(points)
        outside, inside = self._weights[:, indices]
        for first, block in self._rows.blocks():
            x, is_inside = block.double(), self._targets[first : first + len(block)][:, indices]
            signs, weights = is_inside.double() * 2 - 1, torch.where(is_inside, inside, outside)
            margins = signs * torch.addmm(points[:, -1], x, points[:, :-1].T)
            if self._kind == "svm":
                shortfall = (1 - margins).clamp_(min=0)
                loss += (weights * shortfall.square()).sum(0)
                curvature += 2 * (weights * (shortfall > 0)).sum(0)
                slope = -2 * weights * signs * shortfall
            else:
                wrong_probability = torch.sigmoid(-margins)
                loss += (weights * F.softplus(-margins)).sum(0)
                curvature += (weights * wrong_probability * (1 - wrong_probability)).sum(0)
                slope = -weights * signs * wrong_probability
            gradient[:, :-1].addmm_(slope.T, x)
            gradient[:, -1] += slope.sum(0)
        penalized = points if self._kind == "svm" else torch.cat([points[:, :-1], torch.zeros_like(points[:, -1:])], 1)
        value = penalized.square().sum(1) / 2 + self._c * loss
        return ObjectiveValue(value, self._c * gradient + penalized, self._c * curvature / len(self._rows))


class MultiLabelFitter:
    """Fits classifiers of several labels to the same features, for one C after another, each from the last one's point.

    Args:
        kind: `svm` or `logistic`, see `IndependentClasses`.
        features: M rows, L2-normalized.
        labels: (M, K), 1 where the video has the class, else 0; a class that no video has, or every video, gets a
            constant score, the lowest or the highest of all.
        class_weight: `balanced` weights the rows of each class by M / (2 x its rows) and the others by M / (2 x
            theirs), as sklearn does; default: all rows count alike.

    Raises:
        ValueError: there is no class that some videos have and others have not.
    """

    def __init__(
        self,
        kind: LinearName,
        features: FeatureRows,
        labels: NDArray[np.integer],
        class_weight: ClassWeight | None = None,
    ) -> None:
        counts = (labels > 0).sum(axis=0)
        self._varying = np.flatnonzero((counts > 0) & (counts < len(labels)))
        if not len(self._varying):
            raise ValueError("the training features have no class that some videos show and others do not: add videos")
        self._kind, self._dimension, self._space = kind, features.dimension, RowSpace(features)
        self._features = self._space.rows
        self._constant = np.where(counts > 0, -ABSENT_CLASS_BIAS, ABSENT_CLASS_BIAS).astype(np.float32)
        self._targets = torch.from_numpy(labels[:, self._varying] > 0)
        both = torch.stack([(~self._targets).sum(0), self._targets.sum(0)]).double()
        self._weights = len(labels) / (2 * both) if class_weight else torch.ones_like(both)
        self._moments = SecondMoments(self._features)
        self._last_point = torch.zeros(len(self._varying), self._features.dimension + 1, dtype=torch.float64)

    def fit(self, c: float) -> LinearClassifier:
        """Fits the classifier for `c`, the inverse of the penalty's strength, above 0."""
        objective = IndependentClasses(self._kind, self._features, self._targets, c, self._weights)
        minimum = minimize(objective, self._last_point, self._moments)
        self._last_point = minimum.point
        weight = np.zeros((len(self._constant), self._dimension), np.float32)
        bias = self._constant.copy()
        weight[self._varying] = self._space.expand(minimum.point[:, :-1])
        bias[self._varying] = minimum.point[:, -1].numpy()
        return LinearClassifier(self._kind, weight, bias, minimum.converged, minimum.passes, "multi_label")


def make_fitter(
    kind: LinearName,
    features: FeatureRows,
    labels: NDArray[np.integer],
    num_classes: int,
    class_weight: ClassWeight | None = None,
) -> ClassifierFitter | MultiLabelFitter:
    """The fitter for labels (M,), one class a row, or (M, K), any number of classes a row."""
    if labels.ndim == 2:
        return MultiLabelFitter(kind, features, labels, class_weight)
    return ClassifierFitter(kind, features, labels.astype(np.int64), num_classes, class_weight)
