"""Linear classifiers over all folds of a dataset, from one file of features: mean and spread."""

import time
from pathlib import Path
from typing import Any

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.cli.terminal import say
from pipeline.inference.trained_checkpoint import library_versions
from pipeline.linear.linear_probe import ProbeSettings, without_classes
from pipeline.linear.video_features import VideoFeatures, choose_split
from pipeline.metrics.scored_videos import read_scored_videos
from pipeline.report.fold_results import write_fold_results


def evaluate_folds(judge: ProbeSettings, every: VideoFeatures, index: DatasetIndex, out: Path) -> dict[str, Any]:
    """For each fold, learns from what it trains on and tests on what it holds out, into `out`/fold-NAME.

    Args:
        judge: how.
        every: the features of all videos.
        index: the dataset.
        out: folder; its own report.json has mean and spread, see `summarize_folds`, and C by fold. Where no two folds
            hold out the same video, its page and tables are of all videos together.

    Raises:
        ValueError: videos without features, or that were trained on.
    """
    reports = {}
    for fold in index.folds:
        known, asked = (choose_split(every, index, split, fold) for split in ("train", "test"))
        reports[fold] = judge.report(known, asked, out / f"fold-{fold}", index, shown=False)
    more = {
        "C": {fold: one["C"] for fold, one in reports.items()},
        "classifier": judge.classifier,
        "seconds": round(time.monotonic() - judge.began, 1),
        "provenance": without_classes(every.provenance) | {"versions": library_versions()},
        "notes": [f"Fold {fold}: {note}" for fold, one in reports.items() for note in one.get("notes", ())],
    }
    title = f"{judge.classifier} on {every.provenance['layer']}, {every.provenance['dataset']}, {len(reports)} folds"
    folds = {fold: read_scored_videos(out / f"fold-{fold}") for fold in reports}
    report = write_fold_results(out, folds, title, more, index)
    if judge.c == "auto":
        say("C: " + ", ".join(f"{c:g} in fold {fold}" for fold, c in report["C"].items()))
    say(f"wrote all else of each fold in {out}/fold-*")
    return report
