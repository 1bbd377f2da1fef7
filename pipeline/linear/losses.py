"""Objectives of linear classifiers, penalty plus C times the losses, with gradients, in one pass over the features.

A point is the weights of a class and its bias, D + 1 numbers. Features are read in blocks; see `FeatureRows`.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.linear.feature_blocks import FeatureRows
from pipeline.linear.lbfgs import ObjectiveValue


class Objective(Protocol):
    """G functions to minimize, each a sum over rows of features.

    Attributes:
        num_functions: number of functions, G.
        num_classes: number of classes that a function has weights for.
    """

    num_functions: int
    num_classes: int

    def __call__(self, points: Tensor, indices: Tensor) -> ObjectiveValue:
        """Evaluates the functions numbered `indices`, int64 (g,), at one point each, float64 (g, P)."""
        ...


class OneVersusRest:
    """K functions, one a class: |w|^2 / 2 + C sum of c_i max(0, 1 - y_i (w x_i + b))^2, y_i = 1 in the class, else -1.

    sklearn's LinearSVC in its primal form: the bias is part of w in the penalty.

    Args:
        rows: M rows of features.
        labels: int64 (M,), class numbers; a row whose label is K or above is in no class.
        c: inverse of the penalty's strength, above 0.
        class_weights: float64 (K,), the weight of the rows of each class.
        rest_weights: float64 (K,), the weight of the other rows, for each class.
    """

    num_classes = 1

    def __init__(
        self, rows: FeatureRows, labels: Tensor, c: float, class_weights: Tensor, rest_weights: Tensor
    ) -> None:
        self._rows, self._labels, self._c = rows, labels, c
        self._class_weights, self._rest_weights = class_weights, rest_weights
        self.num_functions = len(class_weights)
        self._num_labels = int(labels.max()) + 1

    def __call__(self, points: Tensor, indices: Tensor) -> ObjectiveValue:
        """See `Objective`."""
        own, rest = self._class_weights[indices], self._rest_weights[indices]
        column = torch.full((self._num_labels,), -1)
        column[indices] = torch.arange(len(indices))
        loss, support = torch.zeros(len(indices), dtype=torch.float64), torch.zeros(len(indices), dtype=torch.float64)
        gradient = torch.zeros_like(points)
        for first, block in self._rows.blocks():
            x = block.double()
            slack = torch.addmm(points[:, -1] + 1, x, points[:, :-1].T)  # of the rows outside the class: 1 + (w x + b)
            columns = column[self._labels[first : first + len(x)]]
            own_rows = torch.nonzero(columns >= 0)[:, 0]
            own_columns = columns[own_rows]
            shortfall = (2 - slack[own_rows, own_columns]).clamp_(min=0)  # of the class's own rows: 1 - (w x + b)
            slack[own_rows, own_columns] = 0
            slack.clamp_(min=0)
            loss += rest * torch.linalg.vector_norm(slack, dim=0).square()
            loss.index_add_(0, own_columns, own[own_columns] * shortfall.square())
            support += rest * (slack > 0).sum(0)
            support.index_add_(0, own_columns, own[own_columns] * (shortfall > 0))
            slack *= rest
            slack[own_rows, own_columns] = -own[own_columns] * shortfall
            gradient[:, :-1].addmm_(slack.T, x)
            gradient[:, -1] += slack.sum(0)
        share = support / len(self._labels)  # X'X of the rows within the margin is about this share of all X'X
        value = points.square().sum(1) / 2 + self._c * loss
        return ObjectiveValue(value, gradient.mul_(2 * self._c).add_(points), 2 * self._c * share)


class BinaryLogistic:
    """One function: |w|^2 / 2 + C sum of c_i log(1 + exp(-y_i (w x_i + b))); the bias is not penalized.

    sklearn's LogisticRegression of two classes.

    Args:
        rows: M rows of features.
        labels: int64 (M,), 0 or 1.
        c: inverse of the penalty's strength, above 0.
        class_weights: float64 (2,), the weight of the rows of each class.
    """

    num_classes = num_functions = 1

    def __init__(self, rows: FeatureRows, labels: Tensor, c: float, class_weights: Tensor) -> None:
        self._rows, self._c = rows, c
        self._signs = labels.double() * 2 - 1
        self._weights = class_weights[labels]

    def __call__(self, points: Tensor, indices: Tensor) -> ObjectiveValue:
        """See `Objective`."""
        loss, curvature = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
        gradient = torch.zeros_like(points)
        for first, block in self._rows.blocks():
            x, rows = block.double(), slice(first, first + len(block))
            weights, signs = self._weights[rows], self._signs[rows]
            margins = signs * (x @ points[0, :-1] + points[0, -1])
            wrong_probability = torch.sigmoid(-margins)
            loss += (weights * F.softplus(-margins)).sum()
            curvature += (weights * wrong_probability * (1 - wrong_probability)).sum()
            slope = -weights * signs * wrong_probability
            gradient[0, :-1] += slope @ x
            gradient[0, -1] += slope.sum()
        value = points[:, :-1].square().sum(1) / 2 + self._c * loss
        gradient *= self._c
        gradient[:, :-1] += points[:, :-1]
        return ObjectiveValue(value, gradient, self._c * curvature / len(self._signs))


class MultinomialLogistic:
    """One function of all K classes: |W|^2 / 2 + C sum of -c_i log softmax(W x_i + b); biases are not penalized.

    sklearn's LogisticRegression of more than two classes.

    Args:
        rows: M rows of features.
        labels: int64 (M,), class numbers in [0, K).
        c: inverse of the penalty's strength, above 0.
        class_weights: float64 (K,), the weight of the rows of each class.
    """

    num_functions = 1

    def __init__(self, rows: FeatureRows, labels: Tensor, c: float, class_weights: Tensor) -> None:
        self._rows, self._labels, self._c = rows, labels, c
        self._weights = class_weights[labels]
        self.num_classes = len(class_weights)

    def __call__(self, points: Tensor, indices: Tensor) -> ObjectiveValue:
        """See `Objective`."""
        weights = points.reshape(self.num_classes, -1)
        loss = torch.zeros(1, dtype=torch.float64)
        curvature = torch.zeros(self.num_classes, dtype=torch.float64)
        gradient = torch.zeros_like(weights)
        for first, block in self._rows.blocks():
            x, labels = block.double(), self._labels[first : first + len(block)]
            counts = self._weights[first : first + len(block)]
            log_probabilities = torch.log_softmax(torch.addmm(weights[:, -1], x, weights[:, :-1].T), dim=1)
            positions = torch.arange(len(x))
            loss -= (counts * log_probabilities[positions, labels]).sum()
            slope = log_probabilities.exp_()
            curvature += counts @ slope - (counts[:, None] * slope).mul_(slope).sum(0)
            slope[positions, labels] -= 1
            slope *= counts[:, None]
            gradient[:, :-1].addmm_(slope.T, x)
            gradient[:, -1] += slope.sum(0)
        value = weights[:, :-1].square().sum() / 2 + self._c * loss
        gradient *= self._c
        gradient[:, :-1] += weights[:, :-1]
        return ObjectiveValue(value, gradient.reshape(1, -1), self._c * curvature / len(self._labels))
