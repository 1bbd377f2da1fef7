"""report.html: the results of an evaluation on one page, with numbers, tables, charts and looping previews."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.metrics.confusion import hardest_classes
from pipeline.metrics.per_class import ClassRow
from pipeline.report.charts import reliability_diagram
from pipeline.report.pictures import Preview
from pipeline.report.rendering import render

_MAX_MATRIX_CLASSES = 20  # most classes of the matrix that are readable as numbers
NUM_OPEN_CLASSES = 20  # visible rows of the table of classes; the others can be unfolded
_WELL_CALIBRATED = 0.03  # mean confidence and accuracy that differ by less count as calibrated


class MisclassifiedVideo(NamedTuple):
    """A misclassified video.

    Attributes:
        key: key of the video.
        label: name of the labelled class.
        predicted: name of the predicted class.
        score: score of the predicted class.
        label_score: score of the labelled class.
        preview: the preview of the video; None where there is no dataset to read it from, or it cannot be decoded.
        segment: its source, and its times there, if it is a segment of a longer video; else "".
    """

    key: str
    label: str
    predicted: str
    score: float
    label_score: float
    preview: Preview | None
    segment: str = ""


class HeadlineFigure(NamedTuple):
    """A headline figure, in [0, 1], with its confidence interval and the value of chance where they are known."""

    name: str
    value: float
    interval: Sequence[float] | None
    chance: float | None
    explanation: str


def draw_results_page(
    title: str,
    report: Mapping[str, Any],
    matrix: NDArray[np.int64],
    rows: Sequence[ClassRow],
    mistakes: Sequence[MisclassifiedVideo],
) -> str:
    """Renders the page as HTML.

    Args:
        title: title of the page: what was evaluated, and on which videos.
        report: the content of report.json.
        matrix: int64 (K, K), numbers of videos by label (rows) and predicted class (columns).
        rows: the K rows of per_class.csv, in the order of the labels.
        mistakes: misclassified videos, the most confident first.
    """
    calibration = report["calibration"]
    shown = hardest_classes(matrix, _MAX_MATRIX_CLASSES).tolist() if matrix.any() else []
    pairs = report["hardest_pairs"] if len(rows) > 2 else []
    return render(
        "results.html",
        title=title,
        report=report,
        facts=[fact for fact in headline_facts(report, len(rows)) if fact],
        seen=describe_overlap(report["provenance"].get("overlap")),
        correct=sum(row.correct for row in rows),
        classes=sorted((row for row in rows if row.videos), key=lambda row: (row.accuracy or 0.0, -row.videos)),
        num_open=NUM_OPEN_CLASSES,
        confidence=_describe_confidence(report),
        figures=_headline_figures(report, len(rows)),
        matrix=matrix,
        shown=shown,
        names=[row.name for row in rows],
        pairs=[(pair, pair["first_as_second"] + pair["second_as_first"]) for pair in pairs],
        reliability=None if calibration is None else reliability_diagram(calibration),
        mistakes=mistakes,
    )


def describe_segment(videos: DatasetIndex, key: str) -> str:
    """Where the segment of a video lies in its source; empty for a whole video, and for one that is not there."""
    rows = videos.rows_of([key])
    return videos.entry(int(rows[0])).describe_segment() if len(rows) else ""


def headline_facts(report: Mapping[str, Any], num_classes: int) -> list[str]:
    """Phrases on what was evaluated; empty ones are left out."""
    provenance = report["provenance"]
    return [
        f"{report['num_videos']:,} videos of {report['interval']['groups']:,} {report['interval']['of']}",
        f"{num_classes:,} classes",
        str(provenance.get("model", "")).rpartition(".")[2],
        f"{report['views']} views a video" if report.get("views") else "",
        str(provenance.get("decoder", "")),
        f"split file {provenance['split_file']['name']}" if provenance.get("split_file") else "",
    ]


def describe_overlap(overlap: Mapping[str, int] | None) -> list[str]:
    """Phrases on the leakage of these videos into the training set; empty where there is none."""
    if not overlap:
        return []
    total = f"of these {overlap['of']:,} videos"
    phrases = [f"{overlap['videos']:,} {total}"] if overlap["videos"] else []
    if overlap.get("content"):
        counted = "more" if phrases else total
        phrases.append(f"what {overlap['content']:,} {counted} show, under another name or in another dataset")
    if overlap["groups"]:
        phrases.append(f"{overlap['groups']:,} of their groups")
    return phrases


def _describe_confidence(report: Mapping[str, Any]) -> str:
    if report["calibration"] is None:
        return ""
    excess = report["calibration"]["mean_confidence"] - report["top1"]
    if abs(excess) < _WELL_CALIBRATED:
        return "about as sure as it is right"
    return "too sure of itself" if excess > 0 else "less sure than it could be"


def _headline_figures(report: Mapping[str, Any], num_classes: int) -> list[HeadlineFigure]:
    intervals, chance = report["intervals"], report["chance"]
    names = {"top1": "Top-1 accuracy", "mean_class_accuracy": "Mean class accuracy"}
    if num_classes > 5:  # else top-5 is 1
        names["top5"] = "Top-5 accuracy"
    figures = [
        HeadlineFigure(
            name, report[key], intervals[key], chance * (5 if key == "top5" else 1), "one group: no interval"
        )
        for key, name in names.items()
    ]
    if report["calibration"]:
        explanation = "mean gap between confidence and accuracy; 0 is best"
        figures.append(HeadlineFigure("Calibration error", report["calibration"]["ece"], None, None, explanation))
    return figures
