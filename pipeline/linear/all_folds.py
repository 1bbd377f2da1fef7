"""Linear classifiers over all folds of a dataset, from one file of features: mean and standard deviation."""

import time
from pathlib import Path
from typing import Any

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.cli.terminal import print_text
from pipeline.inference.provenance import library_versions
from pipeline.linear.linear_probe import ProbeSettings, without_classes
from pipeline.linear.video_features import VideoFeatures, choose_split
from pipeline.metrics.scored_videos import read_scored_videos
from pipeline.report.fold_results import write_fold_results


def probe_folds(settings: ProbeSettings, all_videos: VideoFeatures, index: DatasetIndex, out: Path) -> dict[str, Any]:
    """Fits a classifier on each fold's training videos and tests it on its held-out videos, in `out`/fold-NAME.

    Args:
        settings: the settings of the classifier.
        all_videos: the features of all videos of the dataset.
        index: the dataset, whose folds are taken.
        out: folder of the results; its own report.json has mean and standard deviation, as in `summarize_folds`, and C
            by fold. Where no two folds hold out the same video, its report.html and tables are of the pooled videos.

    Raises:
        ValueError: videos have no features, or held-out videos were trained on.
    """
    reports = {}
    for fold in index.folds:
        train, test = (choose_split(all_videos, index, split, fold) for split in ("train", "test"))
        reports[fold] = settings.report(train, test, out / f"fold-{fold}", index, print_accuracies=False)
    more = {
        "C": {fold: one["C"] for fold, one in reports.items()},
        "classifier": settings.classifier,
        "seconds": round(time.monotonic() - settings.began, 1),
        "provenance": without_classes(all_videos.provenance) | {"versions": library_versions()},
        "notes": [f"Fold {fold}: {note}" for fold, one in reports.items() for note in one.get("notes", ())],
    }
    layer, dataset = (all_videos.provenance[name] for name in ("layer", "dataset"))
    title = f"{settings.classifier} on {layer}, {dataset}, {len(reports)} folds"
    folds = {fold: read_scored_videos(out / f"fold-{fold}") for fold in reports}
    report = write_fold_results(out, folds, title, more, index)
    if settings.c == "auto":
        print_text("C: " + ", ".join(f"{c:g} in fold {fold}" for fold, c in report["C"].items()))
    print_text(f"wrote all else of each fold in {out}/fold-*")
    return report
