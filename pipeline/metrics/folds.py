"""Results over the folds of a dataset: mean and standard deviation of the accuracies, and the pooled videos."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.cli.text_table import TextTable, print_table
from pipeline.metrics.accuracy import accuracy_report, headline_figures
from pipeline.metrics.average_precision import average_precision_report
from pipeline.metrics.scored_videos import ScoredVideos, concatenate


def summarize_folds(folds: Mapping[str, ScoredVideos]) -> dict[str, Any]:
    """Mean and standard deviation of the figures over folds.

    Args:
        folds: the scores of the videos that each fold holds out, by the fold's name.

    Returns:
        {figure}_mean and {figure}_std (sample standard deviation, divisor: folds - 1; 0 for one fold) for the figures
        of the task (`pipeline.metrics.accuracy.headline_figures`); task; chance; and folds, each fold's figures and
        num_videos.
    """
    reports = {fold: _fold_report(scored) for fold, scored in folds.items()}
    first = next(iter(reports.values()))
    names = list(headline_figures(first))
    summary: dict[str, Any] = {"task": first["task"]}
    for name in names:
        values = np.array([report[name] for report in reports.values()])
        summary[f"{name}_mean"] = float(values.mean())
        summary[f"{name}_std"] = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    summary["chance"] = first["chance"]
    summary["folds"] = {
        fold: {name: report[name] for name in (*names, "num_videos")} for fold, report in reports.items()
    }
    return summary


def _fold_report(scored: ScoredVideos) -> dict[str, Any]:
    report = average_precision_report if scored.task == "multi_label" else accuracy_report
    found = report(np.asarray(scored.scores, np.float64), scored.labels, scored.class_names, scored.missing)
    return {"task": scored.task, **found}


def pool_folds(folds: Mapping[str, ScoredVideos]) -> ScoredVideos | None:
    """Pools the held-out videos of all folds into one result; None where two folds hold out the same video.

    The provenance has the entries that are equal in all folds, the checkpoint of each fold or what was fused in it, and
    the summed overlaps.

    Args:
        folds: the scores of the videos that each fold holds out, by the fold's name.
    """
    first, *others = [scored.provenance for scored in folds.values()]
    provenance = {
        name: value
        for name, value in first.items()
        if all(name in scored and scored[name] == value for scored in others)
    }
    for name, plural in (("checkpoint_sha256", "checkpoints_sha256"), ("fused", "fused_folds")):
        by_fold = {fold: scored.provenance[name] for fold, scored in folds.items() if name in scored.provenance}
        if by_fold and name not in provenance:
            provenance[plural] = by_fold
    overlaps = [scored.provenance["overlap"] for scored in folds.values() if scored.provenance["overlap"]]
    counts = {name: sum(overlap[name] for overlap in overlaps) for name in ("videos", "content", "groups")}
    counts["of"] = sum(len(scored.keys) for scored in folds.values())
    provenance["overlap"] = counts if overlaps else None
    if "seen_by_network" in first:
        provenance["seen_by_network"] = sum(scored.provenance["seen_by_network"] for scored in folds.values())
    return concatenate(list(folds.values()), provenance)


def fold_summary_sentence(summary: Mapping[str, Any]) -> str:
    """Mean and standard deviation of the first figure as a sentence, for the report of the pooled videos."""
    name, heading = next(iter(headline_figures(summary).items()))
    mean, spread = (100 * summary[f"{name}_{statistic}"] for statistic in ("mean", "std"))
    count = len(summary["folds"])
    return f"All folds together. Mean over the {count} folds: {heading} {mean:.1f} %, standard deviation {spread:.1f}."


def print_folds(title: str, summary: Mapping[str, Any]) -> None:
    """Prints the folds, their mean and their standard deviation as a small table on standard output."""
    table = TextTable(title=title)
    names = headline_figures(summary)
    for heading in ("fold", *names.values(), "videos"):
        table.add_column(heading, justify="right")
    for fold, figures in summary["folds"].items():
        table.add_row(fold, *(f"{figures[name]:.1%}" for name in names), str(figures["num_videos"]))
    table.add_section()
    table.add_row("mean", *(f"{summary[f'{name}_mean']:.1%}" for name in names), "")
    table.add_row("spread", *(f"± {summary[f'{name}_std']:.1%}" for name in names), "")
    print_table(table)
