"""Linear classifiers over all folds of a dataset, from one file of features: mean and spread."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from datamodules.shards import DatasetIndex
from pipeline.linear_judging import Judge, without_classes
from pipeline.predictions import REPORT_NAME
from pipeline.results import write_report
from pipeline.trained import library_versions
from pipeline.video_features import VideoFeatures, choose_split


def judge_folds(judge: Judge, every: VideoFeatures, index: DatasetIndex, out: Path) -> dict[str, Any]:
    """For each fold, learns from what it trains on and tests on what it holds out, into `out`/fold-NAME.

    Args:
        judge: how.
        every: the features of all videos.
        index: the dataset.
        out: folder; its own report.json has top1_mean, top1_std (of the folds, with their number less one) and a
            summary of each fold.

    Raises:
        ValueError: videos without features, or that were trained on.
    """
    reports = {}
    for fold in index.folds:
        known, asked = (choose_split(every, index, split, fold) for split in ("train", "test"))
        reports[fold] = judge.report(known, asked, out / f"fold-{fold}", index, shown=False)
    accuracies = np.array([report["top1"] for report in reports.values()])
    names = ("top1", "top5", "mean_class_accuracy", "num_videos", "num_train_videos", "C", "converged")
    report = {
        "top1_mean": float(accuracies.mean()),
        "top1_std": float(accuracies.std(ddof=1)) if len(accuracies) > 1 else 0.0,
        "mean_class_accuracy_mean": float(np.mean([one["mean_class_accuracy"] for one in reports.values()])),
        "chance": 1 / len(every.provenance["classes"]),
        "folds": {fold: {name: one.get(name) for name in names} for fold, one in reports.items()},
        "C": judge.c,
        "classifier": judge.classifier,
        "seconds": round(time.monotonic() - judge.began, 1),
        "provenance": without_classes(every.provenance) | {"versions": library_versions()},
    }
    write_report(out / REPORT_NAME, report)
    _print(every, report, judge.classifier)
    print(f"wrote {out / REPORT_NAME}, and report.html and all else of each fold in {out}/fold-*")
    return report


def _print(every: VideoFeatures, report: dict[str, Any], name: str) -> None:
    table = Table(title=f"{name} on {every.provenance['layer']}, {every.provenance['dataset']}")
    for heading in ("fold", "top-1", "mean class", "C", "videos"):
        table.add_column(heading, justify="right")
    for fold, one in report["folds"].items():
        accuracies = f"{one['top1']:.1%}", f"{one['mean_class_accuracy']:.1%}"
        table.add_row(fold, *accuracies, "" if one["C"] is None else f"{one['C']:g}", str(one["num_videos"]))
    table.add_section()
    table.add_row("mean", f"{report['top1_mean']:.1%}", f"{report['mean_class_accuracy_mean']:.1%}", "", "")
    table.add_row("spread", f"± {report['top1_std']:.1%}", "", "", "")
    Console().print(table)
