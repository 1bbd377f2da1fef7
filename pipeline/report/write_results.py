"""Files of an evaluation: predictions.parquet, report.json, per_class.csv and report.html.

`write_results` writes them for the scores of networks, of linear classifiers and of late fusion.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.local_files import file_sha256
from pipeline.metrics.accuracy import accuracy_report, write_report
from pipeline.metrics.calibration import calibrate
from pipeline.metrics.confidence_intervals import DRAWS, LEVEL, accuracy_intervals
from pipeline.metrics.confusion import confusion_matrix, hardest_pairs
from pipeline.metrics.per_class import PER_CLASS_NAME, class_rows, write_class_rows
from pipeline.metrics.predictions import PREDICTIONS_NAME, REPORT_NAME, prediction_schema, prediction_table
from pipeline.metrics.scored_videos import ScoredVideos, compute_correctness, predicted_classes
from pipeline.report.multi_label_results import WritePage, multi_label_report
from pipeline.report.pictures import preview_of_key
from pipeline.report.results_page import MisclassifiedVideo, describe_segment, draw_results_page

__all__ = ["FILES", "PAGE_NAME", "ScoredVideos", "write_results"]

PAGE_NAME = "report.html"
FILES = (PREDICTIONS_NAME, REPORT_NAME, PER_CLASS_NAME, PAGE_NAME)
_NUM_PAIRS = 10
_NUM_MISTAKES = 12


def write_results(
    folder: Path,
    scored: ScoredVideos,
    title: str,
    extra: Mapping[str, Any] | None = None,
    videos: DatasetIndex | None = None,
    seed: int = 0,
    has_predictions: bool = False,
) -> dict[str, Any]:
    """Writes predictions.parquet, report.json, per_class.csv and report.html, each atomically.

    Args:
        folder: folder of the four files, which is created if absent.
        scored: the scores, with labels, keys, groups and provenance.
        title: title of the page: what was evaluated, and on which videos.
        extra: plain data to add to report.json; `notes`, a list of sentences, are also on top of the page.
        videos: the dataset, for previews of the most confident mistakes; None: mistakes are shown without pictures.
        seed: seed of the bootstrap of confidence intervals.
        has_predictions: whether predictions.parquet is in the folder already, and is left as it is.

    Returns:
        The content of report.json.

    Raises:
        ValueError: there are no videos; shapes do not match; scores are not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not has_predictions:
        _write_predictions(folder / PREDICTIONS_NAME, scored)
    if scored.task == "multi_label":
        report, write_page = multi_label_report(scored, seed)
    else:
        report, write_page = _single_label_report(scored, seed)
    per_class = report.pop("per_class")
    report |= {
        "task": scored.task,
        "missing": [scored.keys[number] for number in np.flatnonzero(scored.missing).tolist()],
        "per_class": per_class,
        **(extra or {}),
        "predictions_sha256": file_sha256(folder / PREDICTIONS_NAME),
        "provenance": dict(scored.provenance),
    }
    page = write_page(folder / PER_CLASS_NAME, title, report, videos)
    with write_atomically(folder / PAGE_NAME) as temporary:
        temporary.write_text(page, encoding="utf-8")
    write_report(folder / REPORT_NAME, report)
    return report


def _write_predictions(path: Path, scored: ScoredVideos) -> None:
    schema = prediction_schema(len(scored.class_names), scored.provenance)
    labels, scores = np.asarray(scored.labels), np.asarray(scored.scores)
    table = prediction_table(
        schema, scored.keys, labels, scores, scored.class_names, groups=scored.groups, missing=True
    )
    with write_atomically(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def _single_label_report(scored: ScoredVideos, seed: int) -> tuple[dict[str, Any], WritePage]:
    """The figures of report.json, with `per_class`, and the function that writes the rows and renders the page."""
    scores, labels = np.asarray(scored.scores, dtype=np.float64), np.asarray(scored.labels, dtype=np.int64)
    names, missing = list(scored.class_names), scored.missing
    report = accuracy_report(scores, labels, names, missing)
    outcomes, predicted = compute_correctness(scored), predicted_classes(scored)
    matrix = confusion_matrix(labels, predicted, len(names))
    report |= {
        "intervals": accuracy_intervals(outcomes, seed),
        "interval": {
            "level": LEVEL,
            "of": scored.grouping,
            "groups": outcomes.num_groups,
            "draws": DRAWS,
            "seed": seed,
        },
        "calibration": _calibration(scored, scores, outcomes.top1, missing),
        "hardest_pairs": hardest_pairs(matrix, names, _NUM_PAIRS),
    }
    rows = class_rows(matrix, np.bincount(labels, minlength=len(names)), names)

    def write_page(path: Path, title: str, report: Mapping[str, Any], videos: DatasetIndex | None) -> str:
        write_class_rows(path, rows)
        mistakes = _mistakes(scored, scores, predicted, videos)
        return draw_results_page(title, report, matrix, rows, mistakes)

    return report, write_page


def _calibration(
    scored: ScoredVideos, scores: NDArray[Any], correct: NDArray[np.bool_], missing: NDArray[np.bool_]
) -> dict[str, Any] | None:
    if scored.provenance.get("scores") != "probability" or missing.all():
        return None
    return calibrate(scores[~missing].max(axis=1), correct[~missing])


def _mistakes(
    scored: ScoredVideos, scores: NDArray[Any], predicted: NDArray[np.int64], videos: DatasetIndex | None
) -> list[MisclassifiedVideo]:
    """The 12 most confident mistakes, the most confident first."""
    labels = np.asarray(scored.labels)
    wrong = np.flatnonzero((predicted != labels) & (predicted >= 0))
    order = wrong[np.argsort(-scores[wrong, predicted[wrong]], kind="stable")][:_NUM_MISTAKES]
    return [
        MisclassifiedVideo(
            key=scored.keys[number],
            label=scored.class_names[labels[number]],
            predicted=scored.class_names[predicted[number]],
            score=float(scores[number, predicted[number]]),
            label_score=float(scores[number, labels[number]]),
            preview=None if videos is None else preview_of_key(videos, scored.keys[number], scored.provenance),
            segment="" if videos is None else describe_segment(videos, scored.keys[number]),
        )
        for number in order.tolist()
    ]
