"""report.json, per_class.csv and report.html of results on videos of several labels, by mean average precision."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.metrics.average_precision import (
    ClassRanking,
    average_precision_report,
    class_rankings,
    top_one_hits,
    write_class_rankings,
)
from pipeline.metrics.calibration import calibrate
from pipeline.metrics.confidence_intervals import LEVEL, number_groups
from pipeline.metrics.ranking_samples import class_intervals, draw_ranking_samples, num_draws, ranking_intervals
from pipeline.metrics.scored_videos import ScoredVideos
from pipeline.report.charts import reliability_diagram
from pipeline.report.pictures import Preview, preview_of_key
from pipeline.report.rendering import render
from pipeline.report.results_page import (
    NUM_OPEN_CLASSES,
    HeadlineFigure,
    describe_overlap,
    describe_segment,
    headline_facts,
)

# Writes per_class.csv to a path, and renders report.html, given title, content of report.json and dataset or None.
WritePage = Callable[[Path, str, Mapping[str, Any], DatasetIndex | None], str]
_NUM_MISTAKES = 12
_NO_INTERVAL = "no interval: one group, or the same in all samples"


class MissedVideo(NamedTuple):
    """A video whose best-scored class is not among its labels.

    Attributes:
        key: key of the video.
        labels: names of its classes; empty for a video without any.
        predicted: name of the best-scored class.
        score: score of that class.
        preview: the preview of the video; None where there is no dataset to read it from, or it cannot be decoded.
        segment: where the segment lies in its source; empty for a whole video.
    """

    key: str
    labels: Sequence[str]
    predicted: str
    score: float
    preview: Preview | None
    segment: str


def multi_label_report(scored: ScoredVideos, seed: int) -> tuple[dict[str, Any], WritePage]:
    """The figures of report.json, with `per_class`, and the function that writes per_class.csv and renders the page.

    Besides those of `average_precision_report`: intervals, from bootstrap samples of groups; and calibration of the
    scores of all pairs of a video and a class, where they are probabilities.
    """
    scores, labels = np.asarray(scored.scores, dtype=np.float64), np.asarray(scored.labels)
    names, missing = list(scored.class_names), scored.missing
    report = average_precision_report(scores, labels, names, missing)
    groups = number_groups(scored.groups, scored.keys)
    samples = draw_ranking_samples(scores, labels, missing, groups, seed)
    figures = [values["average_precision"] for values in report["per_class"].values()]
    rows = class_rankings(report, class_intervals(samples, figures))
    draws = num_draws(*labels.shape)
    report |= {
        "intervals": ranking_intervals(samples, report["mean_average_precision"]),
        "interval": {
            "level": LEVEL,
            "of": scored.grouping,
            "groups": int(groups.max()) + 1,
            "draws": draws,
            "seed": seed,
        },
        "calibration": None,
    }
    if scored.provenance.get("scores") == "probability" and not missing.all():
        report["calibration"] = calibrate(scores[~missing].ravel(), labels[~missing].ravel() > 0)
    return report, partial(_write_page, scored, rows)


def _write_page(
    scored: ScoredVideos,
    rows: Sequence[ClassRanking],
    path: Path,
    title: str,
    report: Mapping[str, Any],
    videos: DatasetIndex | None,
) -> str:
    write_class_rankings(path, rows)
    calibration = report["calibration"]
    return render(
        "multi_label_results.html",
        title=title,
        report=report,
        facts=[fact for fact in headline_facts(report, len(rows)) if fact],
        seen=describe_overlap(report["provenance"].get("overlap")),
        classes=sorted((row for row in rows if row.videos), key=lambda row: (row.average_precision or 0, -row.videos)),
        names=[row.name for row in rows],
        num_open=NUM_OPEN_CLASSES,
        figures=_headline_figures(report),
        reliability=None if calibration is None else reliability_diagram(calibration),
        mistakes=_missed_videos(scored, videos),
    )


def _headline_figures(report: Mapping[str, Any]) -> list[HeadlineFigure]:
    intervals = report["intervals"]
    figures = [
        HeadlineFigure(
            "Mean average precision",
            report["mean_average_precision"],
            intervals["mean_average_precision"],
            report["chance"],
            _NO_INTERVAL,
        ),
        HeadlineFigure("Top-1 hit", report["top1_hit"], intervals["top1_hit"], None, _NO_INTERVAL),
    ]
    if report["calibration"]:
        explanation = "mean gap between score and frequency; 0 is best"
        figures.append(HeadlineFigure("Calibration error", report["calibration"]["ece"], None, None, explanation))
    return figures


def _missed_videos(scored: ScoredVideos, videos: DatasetIndex | None) -> list[MissedVideo]:
    """The 12 videos whose best-scored class is not among their labels with the highest scores, the highest first."""
    scores, labels, missing = np.asarray(scored.scores), np.asarray(scored.labels), scored.missing
    best = np.where(missing[:, None], 0, scores).argmax(axis=1)
    wrong = np.flatnonzero(~top_one_hits(scores, labels, missing) & ~missing)
    order = wrong[np.argsort(-scores[wrong, best[wrong]], kind="stable")][:_NUM_MISTAKES]
    return [
        MissedVideo(
            key=scored.keys[number],
            labels=[scored.class_names[label] for label in np.flatnonzero(labels[number]).tolist()],
            predicted=scored.class_names[best[number]],
            score=float(scores[number, best[number]]),
            preview=None if videos is None else preview_of_key(videos, scored.keys[number], scored.provenance),
            segment="" if videos is None else describe_segment(videos, scored.keys[number]),
        )
        for number in order.tolist()
    ]
