"""Linear classifiers over all folds of a dataset, from one file of features: mean and spread."""

import time
from pathlib import Path
from typing import Any

from datamodules.shards import DatasetIndex
from pipeline.fold_reports import over_folds, print_folds
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
        out: folder; its own report.json has mean and spread, see `over_folds`, and C by fold.

    Raises:
        ValueError: videos without features, or that were trained on.
    """
    reports = {}
    for fold in index.folds:
        known, asked = (choose_split(every, index, split, fold) for split in ("train", "test"))
        reports[fold] = judge.report(known, asked, out / f"fold-{fold}", index, shown=False)
    report = over_folds(reports) | {
        "C": {fold: one["C"] for fold, one in reports.items()},
        "classifier": judge.classifier,
        "seconds": round(time.monotonic() - judge.began, 1),
        "provenance": without_classes(every.provenance) | {"versions": library_versions()},
    }
    write_report(out / REPORT_NAME, report)
    print_folds(f"{judge.classifier} on {every.provenance['layer']}, {every.provenance['dataset']}", report)
    if judge.c == "auto":
        print("C: " + ", ".join(f"{c:g} in fold {fold}" for fold, c in report["C"].items()))
    print(f"wrote {out / REPORT_NAME}, and report.html and all else of each fold in {out}/fold-*")
    return report
