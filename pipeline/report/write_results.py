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
from datamodules.video.decoding import DecodeError
from pipeline.metrics.accuracy import accuracy_report, write_report
from pipeline.metrics.calibration import calibrate
from pipeline.metrics.confidence_intervals import DRAWS, LEVEL, accuracy_intervals
from pipeline.metrics.confusion import confusion_matrix, hardest_pairs
from pipeline.metrics.per_class import PER_CLASS_NAME, class_rows, write_class_rows
from pipeline.metrics.predictions import PREDICTIONS_NAME, REPORT_NAME, prediction_schema, prediction_table
from pipeline.metrics.scored_videos import ScoredVideos, compute_correctness, predicted_classes
from pipeline.report.pictures import Preview, make_preview
from pipeline.report.results_page import MisclassifiedVideo, draw_results_page

__all__ = ["FILES", "PAGE_NAME", "ScoredVideos", "write_report_of", "write_results"]

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
) -> dict[str, Any]:
    """Writes predictions.parquet, report.json, per_class.csv and report.html, each atomically.

    Args:
        folder: folder of the four files, which is created if absent.
        scored: the scores, with labels, keys, groups and provenance.
        title: title of the page: what was evaluated, and on which videos.
        extra: plain data to add to report.json; `notes`, a list of sentences, are also on top of the page.
        videos: the dataset, for previews of the most confident mistakes; None: mistakes are shown without pictures.
        seed: seed of the bootstrap of confidence intervals.

    Returns:
        The content of report.json.

    Raises:
        ValueError: there are no videos; shapes do not match; scores are not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    schema = prediction_schema(len(scored.class_names), scored.provenance)
    labels, scores = np.asarray(scored.labels), np.asarray(scored.scores)
    table = prediction_table(
        schema, scored.keys, labels, scores, scored.class_names, groups=scored.groups, missing=True
    )
    with write_atomically(folder / PREDICTIONS_NAME) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)
    return write_report_of(folder, scored, title, extra, videos, seed)


def write_report_of(
    folder: Path,
    scored: ScoredVideos,
    title: str,
    extra: Mapping[str, Any] | None = None,
    videos: DatasetIndex | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Writes the files of `write_results` other than predictions.parquet, which must exist in `folder`."""
    scores, labels = np.asarray(scored.scores, dtype=np.float64), np.asarray(scored.labels, dtype=np.int64)
    names, missing = list(scored.class_names), scored.missing
    report = accuracy_report(scores, labels, names, missing)
    outcomes, predicted = compute_correctness(scored), predicted_classes(scored)
    matrix = confusion_matrix(labels, predicted, len(names))
    rows = class_rows(matrix, np.bincount(labels, minlength=len(names)), names)
    per_class = report.pop("per_class")
    report |= {
        "intervals": accuracy_intervals(outcomes, seed),
        "interval": {"level": LEVEL, "of": "groups", "groups": outcomes.num_groups, "draws": DRAWS, "seed": seed},
        "calibration": _calibration(scored, scores, outcomes.top1, missing),
        "hardest_pairs": hardest_pairs(matrix, names, _NUM_PAIRS),
        "missing": [scored.keys[number] for number in np.flatnonzero(missing).tolist()],
        "per_class": per_class,
        **(extra or {}),
        "predictions_sha256": file_sha256(folder / PREDICTIONS_NAME),
        "provenance": dict(scored.provenance),
    }
    write_class_rows(folder / PER_CLASS_NAME, rows)
    mistakes = _mistakes(scored, scores, predicted, videos)
    page = draw_results_page(title, report, matrix, rows, mistakes)
    with write_atomically(folder / PAGE_NAME) as temporary:
        temporary.write_text(page, encoding="utf-8")
    write_report(folder / REPORT_NAME, report)
    return report


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
            preview=None if videos is None else _make_preview(videos, scored.keys[number], scored.provenance),
            segment="" if videos is None else _describe_segment(videos, scored.keys[number]),
        )
        for number in order.tolist()
    ]


def _describe_segment(videos: DatasetIndex, key: str) -> str:
    rows = videos.rows_of([key])
    return videos.entry(int(rows[0])).describe_segment() if len(rows) else ""


def _make_preview(videos: DatasetIndex, key: str, provenance: Mapping[str, Any]) -> Preview | None:
    rows = videos.rows_of([key])
    decoder = str(provenance.get("decoder") or "auto").split()[0]
    try:
        return make_preview(videos.read_video(int(rows[0])), decoder) if len(rows) else None
    except DecodeError:
        return None
