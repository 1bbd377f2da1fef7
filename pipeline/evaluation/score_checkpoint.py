"""One checkpoint on one split: every video scored once, on any number of ranks, and its results written."""

import time
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import pyarrow as pa
import torch

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.storage.plain_text import printable
from datamodules.transforms.yuv420 import Pixels
from datamodules.video.decoding import Decoder
from lightning_modules import VideoClassifier
from pipeline.cli.terminal import say
from pipeline.inference.output_paths import refuse_unwritable_folder, title_of
from pipeline.inference.rank_tables import RankTables
from pipeline.inference.split_runner import Precision, explain_decode_failure, run_over_split
from pipeline.inference.trained_checkpoint import (
    TrainedCheckpoint,
    describe_checkpoint,
    open_checkpoint,
    open_data,
    split_row_numbers,
    try_one_clip,
)
from pipeline.inference.training_overlap import (
    OverlapCounts,
    overlap_with_checkpoint,
    refuse_overlap,
    training_videos_known,
)
from pipeline.metrics.accuracy import print_report
from pipeline.metrics.predictions import PREDICTIONS_NAME, prediction_schema, prediction_table, read_predictions
from pipeline.metrics.scored_videos import ScoredVideos
from pipeline.report.write_results import FILES, write_report_of

Average = Literal["probabilities", "logits"]
_FORWARD_BYTES = 2**25  # of float clips in one forward pass: 13 of C3D's, whose first layer then takes 0.7 GB
_FORWARD_BYTES_CUDA = 2**28


class Scoring(NamedTuple):
    """How checkpoints are scored.

    Attributes:
        views: the views of a video, as arguments of `ShardedVideoDataModule`.
        clips: what a clip is, where it is not as in training.
        protocol: name of the protocol that these come from, or None.
        average: what is averaged over a video's views.
        views_at_once: views in a forward pass; None: as many as fit in some memory.
        batch_size: videos in a step of one process, at most.
        num_workers: processes that decode, for each process that computes.
        decoder: auto, pyav, decord or torchcodec.
        pixels: how clips travel to the device: rgb or i420.
        accelerator: Lightning's.
        devices: processes or GPUs that compute.
        precision: of the forward passes.
        allow: modules that the checkpoint's model class may come from.
        allow_overlap: score what the checkpoint was trained on.
        allow_missing: count videos that cannot be decoded as wrong.
        seed: of the samples that intervals come from.
    """

    views: dict[str, Any]
    clips: dict[str, Any]
    protocol: str | None
    average: Average
    views_at_once: int | None
    batch_size: int
    num_workers: int
    decoder: Decoder
    pixels: Pixels
    accelerator: str
    devices: int
    precision: Precision
    allow: list[str] | None
    allow_overlap: bool
    allow_missing: bool
    seed: int


class Scored(NamedTuple):
    """What came of it: report.json's content, and what was judged."""

    report: dict[str, Any]
    judged: ScoredVideos
    videos: ShardedVideoDataModule


def score_checkpoint(
    checkpoint: Path, data: Path, split: str, fold: str | None, folder: Path, how: Scoring
) -> Scored | None:
    """Scores a checkpoint and writes its results to `folder`; None on every rank but the first.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: checkpoint, dataset, split, fold or clips do not go together, or the checkpoint has seen the videos.
        DecodeError: a video cannot be decoded, and that is not allowed; nothing is written.
    """
    began = time.monotonic()
    trained, videos, overlap = open_checkpoint_and_data(checkpoint, data, split, fold, folder, how)
    provenance = describe_checkpoint(trained, videos) | {
        "scores": "probability",
        "protocol": how.protocol,
        "average": how.average,
        "precision": how.precision,
        "overlap": overlap,
        "training_videos_known": training_videos_known(trained),
    }
    logged = _predict(trained, videos, folder, provenance, how)
    if logged is None:
        return None
    return _report(checkpoint, trained, videos, folder, provenance, how, logged, began)


def open_checkpoint_and_data(
    checkpoint: Path, data: Path, split: str, fold: str | None, folder: Path, how: Scoring
) -> tuple[TrainedCheckpoint, ShardedVideoDataModule, OverlapCounts | None]:
    """The checkpoint, the videos and what it has seen of them, after every check that can be made before the work.

    Raises:
        FileNotFoundError, ValueError: as `score_checkpoint`, or nothing can be written to `folder`.
    """
    refuse_unwritable_folder(folder)
    trained = open_checkpoint(checkpoint, how.allow, VideoClassifier)
    settings: dict[str, Any] = {"batch_size": how.batch_size, "num_workers": how.num_workers, "decoder": how.decoder}
    settings |= how.views | {"allow_missing": how.allow_missing, "pixels": how.pixels}
    videos = open_data(trained, data, split, fold, how.clips, **settings)
    overlap = overlap_with_checkpoint(trained, videos.index, split_row_numbers(videos)).counts()
    if not how.allow_overlap:
        refuse_overlap(overlap, f"split={split!r}: the checkpoint", "choose a held-out split")
    try_one_clip(trained, videos)
    return trained, videos, overlap


def _predict(
    trained: TrainedCheckpoint, videos: ShardedVideoDataModule, folder: Path, provenance: dict[str, Any], how: Scoring
) -> dict[str, float] | None:
    """Writes predictions.parquet; gives what the model's own metrics say, on the first rank."""
    model = cast(VideoClassifier, trained.model)
    model.view_average = how.average
    model.views_at_once = how.views_at_once or views_that_fit(videos, how.accelerator)
    names, index = model.class_names, videos.index
    schema = prediction_schema(len(names), provenance)

    def to_table(outputs: dict[str, Any]) -> pa.Table:
        """Rows in the order of the index, those of videos that failed among them."""
        lost = [row for row, _ in outputs["failed"]]
        rows = np.array([*outputs["rows"].tolist(), *lost], dtype=np.int64)
        nothing = np.full((len(lost), len(names)), np.nan, np.float32)
        scores = np.concatenate([outputs["scores"].float().cpu().numpy(), nothing])
        order = np.argsort(rows, kind="stable")
        keys = [*outputs["keys"], *(index.entry(row).key for row in lost)]
        labels = [*outputs["labels"].tolist(), *(index.entry(row).label for row in lost)]
        sorted_keys = [keys[place] for place in order]
        groups = [index.entry(row).group for row in rows[order].tolist()]
        sorted_labels = np.asarray(labels, np.int64)[order]
        return prediction_table(schema, sorted_keys, sorted_labels, scores[order], names, groups, how.allow_missing)

    keys = index.column("key", split_row_numbers(videos))
    tables = RankTables(folder / PREDICTIONS_NAME, schema, to_table, list(keys), "evaluate")
    with explain_decode_failure(index, "; or say --allow-missing, which counts them as wrong"):
        return run_over_split(model, videos, tables, "test", how.accelerator, how.devices, how.precision)


def views_that_fit(videos: ShardedVideoDataModule, accelerator: str) -> int:
    """How many views go through the network at a time; one, where a view is a whole video."""
    options = videos.options
    if options.test_sampling == "whole":
        return 1
    view_bytes: int = options.num_frames * options.crop_size**2 * 3 * 4
    cuda = accelerator != "cpu" and torch.cuda.is_available()
    return max(1, (_FORWARD_BYTES_CUDA if cuda else _FORWARD_BYTES) // view_bytes)


def _report(
    checkpoint: Path,
    trained: TrainedCheckpoint,
    videos: ShardedVideoDataModule,
    folder: Path,
    provenance: dict[str, Any],
    how: Scoring,
    logged: dict[str, float],
    began: float,
) -> Scored:
    scores, table = read_predictions(folder / PREDICTIONS_NAME)
    labels, keys = table.column("label").to_numpy().astype(np.int64), table.column("key").to_pylist()
    groups = table.column("group").to_pylist()
    judged = ScoredVideos(scores, labels, trained.model.class_names, keys, groups, provenance)
    views, num_crops = how.views, how.views["num_crops"]
    of_each = views["num_clips"] * num_crops if views["test_sampling"] == "uniform" else None
    missing = int(np.isnan(scores).all(axis=1).sum())
    more: dict[str, Any] = {
        "views": of_each,
        "seconds": round(time.monotonic() - began, 1),
        "notes": _notes(provenance),
    }
    if not missing:  # the model's metrics do not know of videos that it was not given
        more["logged"] = logged
    of_fold = "" if provenance["fold"] is None else f", fold {provenance['fold']}"
    title = f"{title_of(checkpoint)} on {provenance['dataset']}, {provenance['split']}{of_fold}"
    report = write_report_of(folder, judged, title, more, videos.index, how.seed)
    step, whole = views["clip_step"], views["test_sampling"] == "whole"
    extra = {"views": "whole videos" if whole else f"{step} frames apart" if step else str(of_each)}
    extra["seconds"] = f"{report['seconds']:.0f}"
    if provenance["quarantined"]:
        extra["quarantined, not scored"] = str(len(provenance["quarantined"]))
    print_report(title, report, extra, [folder / name for name in FILES])
    if missing:
        say(f"not decoded, so counted as wrong: {', '.join(map(printable, report['missing']))}")
    overlap = provenance["overlap"]
    if overlap is not None:
        seen = overlap["videos"] + overlap["content"]
        print(
            f"not held out: the checkpoint has seen {seen} of these videos in training, and {overlap['groups']} groups"
        )
    return Scored(report, judged, videos)


def _notes(provenance: dict[str, Any]) -> list[str]:
    """What the page has to say on top, besides what is not held out or missing."""
    notes = []
    if not provenance["training_videos_known"]:
        notes.append(
            "What this checkpoint was trained on is not known here: that these videos are held out is for you to know."
        )
    if provenance["quarantined"]:
        notes.append(f"{len(provenance['quarantined'])} videos of the split are quarantined and were not scored.")
    return notes
