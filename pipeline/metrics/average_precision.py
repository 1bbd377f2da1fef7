"""Mean average precision of several labels a video: the report, rows by class, and bootstrap intervals by group."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_modules.tasks.average_precision import class_average_precision
from pipeline.metrics.per_class import write_rows

Flags = NDArray[np.bool_]
Matrix = NDArray[Any]


class ClassRanking(NamedTuple):
    """Average precision of one class.

    Attributes:
        name: name of the class.
        videos: number of videos that show the class.
        average_precision: in [0, 1]; None where no video shows the class.
        low: lower limit of its 95 % interval, from bootstrap samples of groups; None without one.
        high: upper limit of the same interval.
        prevalence: share of all videos that show the class, the average precision of a random ranking.
    """

    name: str
    videos: int
    average_precision: float | None
    low: float | None
    high: float | None
    prevalence: float


def rankable_scores(scores: Matrix, missing: Flags) -> NDArray[np.float64]:
    """The scores with -inf for videos without scores, which rank last: float64 (M, K)."""
    return np.where(missing[:, None], -np.inf, np.asarray(scores, dtype=np.float64))


def average_precisions(scores: Matrix, labels: Matrix, missing: Flags) -> NDArray[np.float64]:
    """Average precision of each class (`class_average_precision`): float64 (K,), NaN for a class without a video."""
    ranked = torch.from_numpy(rankable_scores(scores, missing))
    found: NDArray[np.float64] = class_average_precision(ranked, torch.from_numpy(np.asarray(labels))).numpy()
    return found


def top_one_hits(scores: Matrix, labels: Matrix, missing: Flags) -> Flags:
    """Whether the best-scored class of each video is among its labels: bool (M,); False for a video without scores."""
    best = np.where(missing[:, None], 0, scores).argmax(axis=1)
    hits: Flags = (np.asarray(labels)[np.arange(len(labels)), best] > 0) & ~missing
    return hits


def average_precision_report(
    scores: Matrix, labels: Matrix, class_names: Sequence[str], missing: Flags | None = None
) -> dict[str, Any]:
    """Computes the mean average precision and the top-1 hit of scores.

    The definitions are those of `lightning_modules.tasks.metrics.multi_label_metrics`: classes without a video are left
    out of the mean, equal scores share a rank, and videos without any class are negatives of every class, which do not
    count in top1_hit.

    Args:
        scores: float (M, K), a score for each class, higher is likelier; any scale.
        labels: (M, K), 1 where the video shows the class, else 0.
        class_names: the K class names, in the order of the labels.
        missing: bool (M,), True for a video without scores, which ranks last; default: all have scores.

    Returns:
        mean_average_precision and top1_hit (fractions in [0, 1]); num_videos; unlabelled, the number of videos without
        any class; mean_average_precision_labelled, the mean average precision without these, as the script of Charades
        leaves them out; chance, the mean prevalence of the classes with videos; and per_class by name: videos,
        average_precision (None for a class without a video).

    Raises:
        ValueError: there are no videos, or none that shows a class; shapes do not match; scores are not finite.
    """
    labels = np.asarray(labels)
    if not len(labels) or scores.shape != labels.shape or labels.shape[1] != len(class_names):
        raise ValueError(
            f"scores {scores.shape}, labels {labels.shape}, {len(class_names)} classes: want (M, K), M > 0"
        )
    is_missing = np.zeros(len(labels), dtype=bool) if missing is None else missing
    num_broken = int((~np.isfinite(scores).all(axis=1) & ~is_missing).sum())
    if num_broken:
        raise ValueError(
            f"the scores of {num_broken} of {len(labels)} videos are not finite: did the training diverge?"
        )
    positives, labelled = labels.sum(axis=0, dtype=np.int64), labels.any(axis=1)
    if not labelled.any():
        raise ValueError(
            f"none of the {len(labels)} videos shows any of the {len(class_names)} classes: check the list"
        )
    precisions = average_precisions(scores, labels, is_missing)
    shown = positives > 0
    of_labelled = precisions
    if not labelled.all():
        of_labelled = average_precisions(scores[labelled], labels[labelled], is_missing[labelled])
    return {
        "mean_average_precision": float(precisions[shown].mean()),
        "top1_hit": float(top_one_hits(scores, labels, is_missing)[labelled].mean()),
        "num_videos": len(labels),
        "unlabelled": int((~labelled).sum()),
        "mean_average_precision_labelled": float(of_labelled[shown].mean()),
        "chance": float((positives[shown] / len(labels)).mean()),
        "per_class": {
            name: {"videos": int(count), "average_precision": float(precision) if count else None}
            for name, count, precision in zip(class_names, positives, precisions, strict=True)
        },
    }


def class_rankings(report: Mapping[str, Any], intervals: Sequence[Sequence[float] | None]) -> list[ClassRanking]:
    """The rows of all classes, in the order of the labels.

    Args:
        report: the result of `average_precision_report`.
        intervals: interval of each class's average precision, None where there is none.
    """
    rows = []
    for (name, values), interval in zip(report["per_class"].items(), intervals, strict=True):
        low, high = interval or (None, None)
        share = values["videos"] / report["num_videos"]
        rows.append(ClassRanking(name, values["videos"], values["average_precision"], low, high, share))
    return rows


def write_class_rankings(path: Path, rows: Sequence[ClassRanking]) -> None:
    """Writes per_class.csv of a dataset of several labels."""
    write_rows(path, ["class", *ClassRanking._fields[1:]], rows)
