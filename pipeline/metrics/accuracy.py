"""Accuracies of class scores, for networks and linear classifiers: computed, written to report.json, printed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.plain_text import to_json
from pipeline.cli.terminal import print_text
from pipeline.cli.text_table import TextTable, print_table


def accuracy_report(
    scores: NDArray[Any],
    labels: NDArray[np.int64],
    class_names: Sequence[str],
    missing: NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """Computes top-1, top-5, mean class and per-class accuracy of scores.

    The definitions are those of `lightning_modules.tasks.metrics.classification_metrics`: among equal scores the first
    class wins; a class without a video does not count in the mean; with fewer than five classes top5 is 1.

    Args:
        scores: float (M, K), a score for each class, higher is likelier; any scale.
        labels: integers (M,), class numbers in [0, K).
        class_names: the K class names, in the order of the labels.
        missing: bool (M,), True for a video without scores, which counts as wrong; default: all have scores.

    Returns:
        top1, top5 and mean_class_accuracy (fractions in [0, 1]), num_videos, chance (1 / K), and per_class by name:
        videos, correct, accuracy (None for a class without a video).

    Raises:
        ValueError: there are no videos; shapes do not match; scores are not finite.
    """
    labels = np.asarray(labels, dtype=np.int64)
    if not len(labels) or scores.shape != (len(labels), len(class_names)):
        raise ValueError(f"scores {scores.shape}, {len(labels)} labels, {len(class_names)} classes: want (M, K), M > 0")
    is_missing = np.zeros(len(labels), dtype=bool) if missing is None else missing
    num_broken = int((~np.isfinite(scores).all(axis=1) & ~is_missing).sum())
    if num_broken:
        raise ValueError(
            f"the scores of {num_broken} of {len(labels)} videos are not finite: did the training diverge?"
        )
    rank = rank_of_label(scores, labels, is_missing)
    videos = np.bincount(labels, minlength=len(class_names))
    correct = np.bincount(labels[rank == 0], minlength=len(class_names))
    has_videos = videos > 0
    return {
        "top1": float((rank == 0).mean()),
        "top5": float((rank < 5).mean()),
        "mean_class_accuracy": float((correct[has_videos] / videos[has_videos]).mean()),
        "num_videos": len(labels),
        "chance": 1 / len(class_names),
        "per_class": {
            name: {"videos": int(total), "correct": int(hits), "accuracy": float(hits / total) if total else None}
            for name, total, hits in zip(class_names, videos, correct, strict=True)
        },
    }


def rank_of_label(
    scores: NDArray[Any], labels: NDArray[np.int64], missing: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """The rank of the label among the classes: int64 (M,), 0 where it is the best; K + 5 where scores are missing."""
    label_scores = scores[np.arange(len(labels)), labels][:, None]
    earlier = np.arange(scores.shape[1])[None, :] < labels[:, None]
    ranks: NDArray[np.int64] = ((scores > label_scores) | ((scores == label_scores) & earlier)).sum(axis=1)
    return ranks if missing is None else np.where(missing, scores.shape[1] + 5, ranks)


def headline_figures(report: Mapping[str, Any]) -> dict[str, str]:
    """The figures of a report that tables show, by name, with their headings: those of its task."""
    if report.get("task") == "multi_label":
        return {"mean_average_precision": "mAP", "top1_hit": "top-1 hit"}
    return {"top1": "top-1", "top5": "top-5", "mean_class_accuracy": "mean class"}


def write_report(path: Path, report: Mapping[str, Any]) -> None:
    """Writes report.json atomically."""
    with write_atomically(path) as temporary:
        temporary.write_text(to_json(report, indent=2) + "\n", encoding="utf-8")


def print_report(title: str, report: Mapping[str, Any], extra: Mapping[str, str], paths: Sequence[Path]) -> None:
    """Prints the figures as a small table on standard output, then the files written, one a line."""
    table = TextTable(title=title)
    columns = {
        **{heading: f"{report[name]:.1%}" for name, heading in headline_figures(report).items()},
        "chance": f"{report['chance']:.1%}",
        "videos": str(report["num_videos"]),
        **extra,
    }
    for heading in columns:
        table.add_column(heading, justify="right")
    table.add_row(*columns.values())
    print_table(table)
    for path in paths:
        print_text(f"wrote {path}")
