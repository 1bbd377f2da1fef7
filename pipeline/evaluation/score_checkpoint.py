"""Evaluation of one checkpoint on one split: scores every video once, on any number of ranks, and writes the report."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.splits.split_file import PACKED
from datamodules.storage.plain_text import printable
from lightning_modules import VideoClassifier
from pipeline.cli.terminal import print_text
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.evaluation.score_export import export_scores, refuse_other_scores
from pipeline.exported_models.exported_classifier import ExportedClassifier
from pipeline.exported_models.open_model import open_classifier
from pipeline.inference.output_paths import checkpoint_title, refuse_unwritable_folder
from pipeline.inference.provenance import describe_checkpoint, describe_computation
from pipeline.inference.split_runner import try_one_clip
from pipeline.inference.trained_checkpoint import (
    TrainedCheckpoint,
    open_data,
    split_row_numbers,
)
from pipeline.inference.trained_split_file import has_split_file
from pipeline.inference.training_overlap import (
    overlap_with_checkpoint,
    refuse_overlap,
    training_videos_known,
)
from pipeline.metrics.accuracy import print_report
from pipeline.metrics.predictions import PREDICTIONS_NAME, read_labels, read_predictions
from pipeline.metrics.scored_videos import ScoredVideos
from pipeline.report.write_results import FILES, write_results

_METRIC_BATCH = 8192  # videos per update of the metrics


class EvaluationResult(NamedTuple):
    """Result of an evaluation: the content of report.json, the scored videos, and the data module."""

    report: dict[str, Any]
    scored: ScoredVideos
    videos: ShardedVideoDataModule


def score_checkpoint(
    checkpoint: Path, fold: str | None, folder: Path, options: EvaluateOptions
) -> EvaluationResult | None:
    """Scores a checkpoint and writes the results to `folder`; returns None on ranks other than 0.

    Raises:
        FileNotFoundError: the checkpoint does not exist.
        ValueError: checkpoint, dataset, split, fold or clips do not fit together, or the videos were trained on.
        DecodeError: a video cannot be decoded, and `allow_missing` is false; finished results are kept.
    """
    began = time.monotonic()
    trained, videos, provenance = open_checkpoint_and_data(checkpoint, fold, folder, options)
    if not export_scores(trained, videos, folder / PREDICTIONS_NAME, provenance, options):
        return None
    return _write_report(checkpoint, trained, videos, folder, provenance, options, began)


def open_checkpoint_and_data(
    checkpoint: Path, fold: str | None, folder: Path, options: EvaluateOptions
) -> tuple[TrainedCheckpoint, ShardedVideoDataModule, dict[str, Any]]:
    """Opens the checkpoint and the data module, and describes the scores' provenance, after all checks of the inputs.

    Raises:
        FileNotFoundError: the checkpoint does not exist.
        ValueError: the inputs do not fit together, the videos were trained on, or `folder` is not writable or holds
            an unfinished evaluation with other settings.
    """
    refuse_unwritable_folder(folder)
    trained = open_classifier(checkpoint, options.allow)
    average: str = options.average or "probabilities"
    if isinstance(trained.model, ExportedClassifier):
        average = "features" if trained.model.head is not None else average
        trained.model.refuse_options(options.average, options.precision)
        if options.num_clips is None and options.clip_step is None and not options.whole:
            options = replace(options, **trained.model.default_views())
    videos = open_data(
        trained,
        options.dataset,
        options.split,
        fold,
        options,
        allow_missing=options.allow_missing,
        split_file=options.split_file,
    )
    overlap = overlap_with_checkpoint(trained, videos.index, split_row_numbers(videos)).counts()
    if not options.allow_overlap:
        refuse_overlap(overlap, f"split={options.split!r}: the checkpoint", _remedy(trained, videos))
    try_one_clip(trained, videos)
    provenance = describe_checkpoint(trained, videos) | {
        "scores": "probability",
        "protocol": options.protocol,
        "average": average,
        **describe_computation(options),
        "overlap": overlap,
        "training_videos_known": training_videos_known(trained),
    }
    refuse_other_scores(folder / PREDICTIONS_NAME, provenance)
    return trained, videos, provenance


def _remedy(trained: TrainedCheckpoint, videos: ShardedVideoDataModule) -> str:
    """The advice for a split that the checkpoint was trained on."""
    recorded = trained.dataset.get("split_file")
    if trained.family != videos.index.manifest.family or has_split_file(trained.dataset, videos.index.split_file):
        return "choose a held-out split"
    name = PACKED if recorded is None else recorded["name"]
    return f"evaluate with the splits of its training, --split-file {name}"


def _write_report(
    checkpoint: Path,
    trained: TrainedCheckpoint,
    videos: ShardedVideoDataModule,
    folder: Path,
    provenance: dict[str, Any],
    options: EvaluateOptions,
    began: float,
) -> EvaluationResult:
    scores, table = read_predictions(folder / PREDICTIONS_NAME)
    labels, keys = read_labels(table, len(trained.model.class_names)), table.column("key").to_pylist()
    groups = table.column("group").to_pylist()
    scored = ScoredVideos(scores, labels, trained.model.class_names, keys, groups, provenance)
    views = videos.options
    num_views = views.num_clips * views.num_crops if views.test_sampling == "uniform" else None
    missing = int(np.isnan(scores).all(axis=1).sum())
    extra: dict[str, Any] = {
        "views": num_views,
        "seconds": round(time.monotonic() - began, 1),
        "notes": _notes(provenance),
    }
    if not missing:  # the model's metrics cannot take videos without scores
        extra["model_metrics"] = _model_metrics(cast(VideoClassifier, trained.model), scores, labels)
    fold_suffix = "" if provenance["fold"] is None else f", fold {provenance['fold']}"
    title = f"{checkpoint_title(checkpoint)} on {provenance['dataset']}, {provenance['split']}{fold_suffix}"
    report = write_results(folder, scored, title, extra, videos.index, options.seed, has_predictions=True)
    step, whole = views.clip_step, views.test_sampling == "whole"
    columns = {"views": "whole videos" if whole else f"{step} frames apart" if step else str(num_views)}
    columns["seconds"] = f"{report['seconds']:.0f}"
    if provenance["quarantined"]:
        columns["quarantined, not scored"] = str(len(provenance["quarantined"]))
    print_report(title, report, columns, [folder / name for name in FILES])
    if missing:
        print_text(f"not decoded, so counted as wrong: {', '.join(map(printable, report['missing']))}")
    overlap = provenance["overlap"]
    if overlap is not None:
        num_trained = overlap["videos"] + overlap["content"]
        print(
            f"not held out: the checkpoint has seen {num_trained} of these videos in training, and {overlap['groups']} "
            "groups"
        )
    return EvaluationResult(report, scored, videos)


def _model_metrics(model: VideoClassifier, scores: NDArray[np.float32], labels: NDArray[Any]) -> dict[str, float]:
    """Computes the model's own test metrics from the scores, in one process, without synchronization."""
    metrics = model.test_metrics.cpu()
    for metric in metrics.values(copy_state=False):
        metric.distributed_available_fn = lambda: False
    metrics.reset()
    for first in range(0, len(scores), _METRIC_BATCH):
        rows = slice(first, first + _METRIC_BATCH)
        metrics.update(torch.from_numpy(scores[rows]), torch.from_numpy(labels[rows]))
    return {name: float(value) for name, value in metrics.compute().items()}


def _notes(provenance: dict[str, Any]) -> list[str]:
    """Notes at the top of the report: unknown training videos, quarantined videos."""
    notes = []
    if not provenance["training_videos_known"]:
        notes.append(
            "What this checkpoint was trained on is not known here: that these videos are held out is for you to know."
        )
    if provenance["quarantined"]:
        notes.append(f"{len(provenance['quarantined'])} videos of the split are quarantined and were not scored.")
    return notes
