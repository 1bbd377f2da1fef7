"""Resumable export of the scores of all videos of a split, from any number of ranks, to predictions.parquet."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow.parquet as pq

from datamodules.batch import multi_hot
from datamodules.datamodule import ShardedVideoDataModule
from lightning_modules import VideoClassifier
from pipeline.evaluation.evaluate_options import EvaluateOptions
from pipeline.inference.part_folder import refuse_other_settings
from pipeline.inference.part_rows import PartRows
from pipeline.inference.resumable_export import ResumableExport, StepRows
from pipeline.inference.split_runner import explain_decode_failure, run_over_split
from pipeline.inference.trained_checkpoint import TrainedCheckpoint, split_row_numbers
from pipeline.inference.trained_split_file import with_split_digests
from pipeline.metrics.predictions import prediction_schema, prediction_table, with_source_times
from pipeline.processes.compute_device import forward_bytes, inference_device

_REMEDY = "remove that folder"
# The scores depend neither on the checkpoint's path nor on which other videos are quarantined.
_NOT_SETTINGS = ("checkpoint", "quarantined", "protocol", "overlap", "training_videos_known", "device")


def refuse_other_scores(path: Path, provenance: Mapping[str, Any]) -> None:
    """Raises ValueError if `path` has parts of an unfinished evaluation with other settings."""
    refuse_other_settings(path, _settings(provenance), _REMEDY)


def export_scores(
    trained: TrainedCheckpoint,
    videos: ShardedVideoDataModule,
    path: Path,
    provenance: Mapping[str, Any],
    options: EvaluateOptions,
) -> bool:
    """Scores the videos and writes predictions.parquet; the caller removes the parts at the end of the command.

    Args:
        trained: checkpoint of a classifier.
        videos: data module whose prediction split is scored.
        path: the path of the file.
        provenance: plain data for the file's metadata.
        options: averaging of views, and how the network is run.

    Returns:
        Whether this is rank 0, which reports.
    """
    model = cast(VideoClassifier, trained.model)
    model.view_average = options.average or "probabilities"
    model.views_at_once = options.views_at_once or max_views_per_forward(videos, options.accelerator)
    schema, index = prediction_schema(model.num_classes, provenance), videos.index
    has_segments = index.has_segments

    part_schema = with_source_times(schema.empty_table(), []).schema if has_segments else schema

    def to_rows(outputs: dict[str, Any]) -> StepRows:
        """Rows in the order of the index, including NaN rows of videos that failed."""
        failed_rows = [row for row, *_ in outputs["failed"]]
        rows = np.array([*outputs["rows"].tolist(), *failed_rows], dtype=np.int64)
        missing_scores = np.full((len(failed_rows), model.num_classes), np.nan, np.float32)
        scores = np.concatenate([outputs["scores"].float().cpu().numpy(), missing_scores])
        order = np.argsort(rows, kind="stable")
        entries = [index.entry(row) for row in rows[order].tolist()]
        keys, groups = [entry.key for entry in entries], list(index.column("split_group", rows[order]))
        labels = np.array([entry.label for entry in entries], dtype=np.int64)
        if index.task == "multi_label":
            labels = multi_hot([entry.labels for entry in entries], model.num_classes).numpy()
        table = prediction_table(schema, keys, labels, scores[order], model.class_names, groups, options.allow_missing)
        if has_segments:
            table = with_source_times(table, entries)
        return StepRows(table, rows[order], np.isin(rows[order], failed_rows))

    def finish(temporary: Path, parts: PartRows) -> None:
        with pq.ParquetWriter(temporary, part_schema, compression="zstd", write_page_checksum=True) as writer:
            for table in parts.tables():
                writer.write_table(table)

    callback = ResumableExport(
        path,
        _settings(provenance),
        part_schema,
        to_rows,
        split_row_numbers(videos),
        finish,
        options.save_every,
        "evaluate",
        keep_parts=True,
        remedy=_REMEDY,
    )
    alternative = ", or give --allow-missing, which counts them as wrong; then the same command goes on with the others"
    with explain_decode_failure(index, alternative):
        return run_over_split(model, videos, callback, options)


def max_views_per_forward(videos: ShardedVideoDataModule, accelerator: str) -> int:
    """Returns the number of views in one forward pass; 1 if a view is a whole video."""
    options = videos.options
    if options.test_sampling == "whole":
        return 1
    view_bytes: int = options.num_frames * options.crop_size**2 * 3 * 4
    return max(1, forward_bytes(inference_device(accelerator)) // view_bytes)


def _settings(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Selects the settings that the scores depend on."""
    return {name: value for name, value in with_split_digests(provenance).items() if name not in _NOT_SETTINGS}
