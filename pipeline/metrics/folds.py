"""The folds of a dataset together: mean and spread over them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.cli.text_table import TextTable, print_table

FIGURES = ("top1", "top5", "mean_class_accuracy")


def over_folds(reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and spread of the figures of one report a fold.

    Args:
        reports: report.json's content, by fold.

    Returns:
        {figure}_mean and {figure}_std (of a sample, divided by one less than the folds; 0 for one fold) for top1, top5
        and mean_class_accuracy, chance, and folds: each fold's figures and num_videos.
    """
    summary: dict[str, Any] = {}
    for name in FIGURES:
        values = np.array([report[name] for report in reports.values()])
        summary[f"{name}_mean"] = float(values.mean())
        summary[f"{name}_std"] = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    summary["chance"] = next(iter(reports.values()))["chance"]
    wanted = (*FIGURES, "num_videos")
    summary["folds"] = {fold: {name: report[name] for name in wanted} for fold, report in reports.items()}
    return summary


def fold_summary_lines(summary: Mapping[str, Any]) -> str:
    """Mean and spread as a sentence, for the page of all videos."""
    mean, spread = (100 * summary[f"top1_{name}"] for name in ("mean", "std"))
    count = len(summary["folds"])
    return f"All folds together. Mean over the {count} folds: top-1 {mean:.1f} %, standard deviation {spread:.1f}."


def print_folds(title: str, summary: Mapping[str, Any]) -> None:
    """The folds as a small table on standard output."""
    table = TextTable(title=title)
    for heading in ("fold", "top-1", "top-5", "mean class", "videos"):
        table.add_column(heading, justify="right")
    for fold, one in summary["folds"].items():
        table.add_row(fold, *(f"{one[name]:.1%}" for name in FIGURES), str(one["num_videos"]))
    table.add_section()
    table.add_row("mean", *(f"{summary[f'{name}_mean']:.1%}" for name in FIGURES), "")
    table.add_row("spread", *(f"± {summary[f'{name}_std']:.1%}" for name in FIGURES), "")
    print_table(table)


def checkpoint_of_fold(checkpoints: Sequence[Path], fold: str, trained_folds: Mapping[Path, str | None]) -> Path:
    """Which checkpoint is to be scored on a fold.

    Args:
        checkpoints: one, perhaps with `{fold}` in its path; or several, one a fold.
        fold: name of the fold.
        trained_folds: the fold that each checkpoint was trained in, None where none is known.

    Raises:
        ValueError: none, or more than one, was trained in this fold.
    """
    if len(checkpoints) == 1:
        return Path(str(checkpoints[0]).replace("{fold}", fold))
    found = [path for path in checkpoints if trained_folds[path] == fold]
    if len(found) != 1:
        said = ", ".join(f"{path} ({trained_folds[path]})" for path in checkpoints)
        raise ValueError(
            f"fold=all: {len(found)} checkpoints were trained in fold {fold}, of {said}: give one a fold, or one path "
            "with {fold} in it"
        )
    return found[0]
