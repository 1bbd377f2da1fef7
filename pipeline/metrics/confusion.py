"""The confusion matrix, the pairs of classes that are confused most often, and the part of the matrix to show."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def confusion_matrix(labels: Integers, predicted: Integers, num_classes: int) -> Integers:
    """Counts videos by label (rows) and prediction (columns): int64 (K, K); predictions below 0 are not counted."""
    is_predicted = predicted >= 0
    cells = labels[is_predicted] * num_classes + predicted[is_predicted]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def hardest_pairs(matrix: Integers, class_names: Sequence[str], max_pairs: int) -> list[dict[str, Any]]:
    """The pairs of classes that are confused most often, both directions added.

    Args:
        matrix: int64 (K, K), from `confusion_matrix`.
        class_names: the K class names, in the order of the labels.
        max_pairs: maximum number of pairs.

    Returns:
        The pairs, the most confused first: first and second (names; first is mistaken for second at least as often as
        the reverse), first_as_second and second_as_first (numbers of videos), first_videos and second_videos (numbers
        of videos with that label and a prediction).
    """
    wrong = matrix - np.diag(np.diag(matrix))
    both = np.triu(wrong + wrong.T)
    rows, columns = np.nonzero(both)
    order = np.argsort(-both[rows, columns], kind="stable")[:max_pairs]
    pairs = []
    for one, other in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        first, second = (one, other) if wrong[one, other] >= wrong[other, one] else (other, one)
        pairs.append(
            {
                "first": class_names[first],
                "second": class_names[second],
                "first_as_second": int(wrong[first, second]),
                "second_as_first": int(wrong[second, first]),
                "first_videos": int(matrix[first].sum()),
                "second_videos": int(matrix[second].sum()),
            }
        )
    return pairs


def hardest_classes(matrix: Integers, max_classes: int) -> Integers:
    """The classes to show where there is no room for all: the classes of the most confused pairs.

    Args:
        matrix: int64 (K, K), from `confusion_matrix`.
        max_classes: maximum number of classes.

    Returns:
        Class numbers, int64: in the order of the labels if K is at most `max_classes`; else chained greedily, each
        class followed by the remaining class that it is most often confused with.
    """
    if len(matrix) <= max_classes:
        return np.arange(len(matrix))
    wrong = matrix - np.diag(np.diag(matrix))
    both = wrong + wrong.T
    rows, columns = np.nonzero(np.triu(both))
    order = np.argsort(-both[rows, columns], kind="stable")
    chosen: dict[int, None] = {}
    for position in order.tolist():
        for label in (int(rows[position]), int(columns[position])):
            if len(chosen) < max_classes:
                chosen[label] = None
    remaining = list(chosen)
    chain = remaining[:1]
    remaining = remaining[1:]
    while remaining:
        next_label = max(remaining, key=lambda label: both[chain[-1], label])
        remaining.remove(next_label)
        chain.append(next_label)
    return np.asarray(chain, dtype=np.int64)
