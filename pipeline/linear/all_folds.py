"""Linear classifiers over all folds of a dataset, from one file of features: mean and spread."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.cli.terminal import say
from pipeline.inference.trained_checkpoint import library_versions
from pipeline.linear.linear_probe import ProbeSettings, without_classes
from pipeline.linear.video_features import VideoFeatures, choose_split
from pipeline.metrics.accuracy import write_report
from pipeline.metrics.folds import fold_summary_lines, over_folds, print_folds
from pipeline.metrics.predictions import REPORT_NAME
from pipeline.metrics.scored_videos import ScoredVideos, concatenate, read_scored_videos
from pipeline.report.write_results import FILES, write_results


def evaluate_folds(judge: ProbeSettings, every: VideoFeatures, index: DatasetIndex, out: Path) -> dict[str, Any]:
    """For each fold, learns from what it trains on and tests on what it holds out, into `out`/fold-NAME.

    Args:
        judge: how.
        every: the features of all videos.
        index: the dataset.
        out: folder; its own report.json has mean and spread, see `over_folds`, and C by fold. Where no two folds hold
            out the same video, its page and tables are of all videos together.

    Raises:
        ValueError: videos without features, or that were trained on.
    """
    reports = {}
    for fold in index.folds:
        known, asked = (choose_split(every, index, split, fold) for split in ("train", "test"))
        reports[fold] = judge.report(known, asked, out / f"fold-{fold}", index, shown=False)
    summary = over_folds(reports)
    report = summary | {
        "C": {fold: one["C"] for fold, one in reports.items()},
        "classifier": judge.classifier,
        "seconds": round(time.monotonic() - judge.began, 1),
        "provenance": without_classes(every.provenance) | {"versions": library_versions()},
    }
    title = f"{judge.classifier} on {every.provenance['layer']}, {every.provenance['dataset']}"
    pooled = _pooled(reports, out, report["provenance"])
    if pooled is not None:
        told = [f"Fold {fold}: {note}" for fold, one in reports.items() for note in one.get("notes", ())]
        notes = [fold_summary_lines(summary), *told]
        write_results(out, pooled, f"{title}, {len(reports)} folds", report | {"notes": notes}, index)
    else:
        write_report(out / REPORT_NAME, report)
    print_folds(title, report)
    if judge.c == "auto":
        say("C: " + ", ".join(f"{c:g} in fold {fold}" for fold, c in report["C"].items()))
    for name in FILES if pooled is not None else (REPORT_NAME,):
        say(f"wrote {out / name}")
    say(f"wrote all else of each fold in {out}/fold-*")
    return report


def _pooled(reports: Mapping[str, Mapping[str, Any]], out: Path, about: dict[str, Any]) -> ScoredVideos | None:
    """What the classifiers of all folds said, each of what its fold held out; None where two folds share a video."""
    many = [read_scored_videos(out / f"fold-{fold}") for fold in reports]
    about = about | {name: value for name, value in many[0].provenance.items() if name not in ("train", "test", "C")}
    overlaps = [judged.provenance["overlap"] for judged in many if judged.provenance["overlap"]]
    counts = {name: sum(overlap[name] for overlap in overlaps) for name in ("videos", "groups", "of")}
    seen = sum(judged.provenance["seen_by_network"] for judged in many)
    return concatenate(many, about | {"overlap": counts if overlaps else None, "seen_by_network": seen})
