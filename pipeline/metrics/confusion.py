"""Which class is taken for which: the confusion matrix, its hardest pairs and its hardest part."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def confusion_matrix(labels: Integers, predicted: Integers, num_classes: int) -> Integers:
    """Videos by label (rows) and predicted class (columns): int64 (K, K); a prediction below 0 is counted nowhere."""
    named = predicted >= 0
    cells = labels[named] * num_classes + predicted[named]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def hardest_pairs(matrix: Integers, class_names: Sequence[str], most: int) -> list[dict[str, Any]]:
    """The pairs of classes that were taken for each other most often, in either direction.

    Args:
        matrix: int64 (K, K), of `confusion_matrix`.
        class_names: the K names.
        most: pairs at most.

    Returns:
        For each pair first and second (names), first_as_second and second_as_first (videos), first_videos and
        second_videos (with that label and a prediction), the worst first. `first` is what is mistaken more often.
    """
    wrong = matrix - np.diag(np.diag(matrix))
    both = np.triu(wrong + wrong.T)
    rows, columns = np.nonzero(both)
    order = np.argsort(-both[rows, columns], kind="stable")[:most]
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


def hardest_classes(matrix: Integers, most: int) -> Integers:
    """The classes to show where there is no room for all: those of the hardest pairs, in groups that are confused.

    Args:
        matrix: int64 (K, K).
        most: classes at most.

    Returns:
        Class numbers, in the order of the labels where all K fit; else chained, each next to the one it is most often
        confused with among those left.
    """
    if len(matrix) <= most:
        return np.arange(len(matrix))
    wrong = matrix - np.diag(np.diag(matrix))
    both = wrong + wrong.T
    rows, columns = np.nonzero(np.triu(both))
    order = np.argsort(-both[rows, columns], kind="stable")
    chosen: dict[int, None] = {}
    for place in order.tolist():
        for one in (int(rows[place]), int(columns[place])):
            if len(chosen) < most:
                chosen[one] = None
    waiting = list(chosen)
    chain = waiting[:1]
    waiting = waiting[1:]
    while waiting:
        following = max(waiting, key=lambda other: both[chain[-1], other])
        waiting.remove(following)
        chain.append(following)
    return np.asarray(chain, dtype=np.int64)
