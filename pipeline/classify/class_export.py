"""`export_classes`: the scores of many videos to a Parquet file, resumable, by several processes.

Clips are those that `classify` prints the classes of; the videos are read through the data loader, plain files by
`pipeline.inference.video_file_index`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytorch_lightning as pl
import torch

from datamodules.annotations.records import ALL_VIDEOS
from datamodules.batch import ClipBatch
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.loading.loader_options import LoaderOptions
from datamodules.video.decoding import describe_decoder
from lightning_modules import VideoClassifier
from lightning_modules.tasks.saved_network import plain_data
from pipeline.classify.linear_head import LinearHead
from pipeline.classify.packed_videos import is_packed_dataset
from pipeline.classify.video_input import Preprocessing
from pipeline.cli.terminal import print_text
from pipeline.inference.inference_options import ComputeOptions, OverwriteOptions
from pipeline.inference.output_paths import refuse_unwritable_file
from pipeline.inference.part_folder import remove_parts
from pipeline.inference.part_rows import PartRows
from pipeline.inference.provenance import describe_computation, library_versions
from pipeline.inference.resumable_export import ResumableExport, StepRows
from pipeline.inference.split_runner import run_over_split
from pipeline.inference.trained_checkpoint import TrainedCheckpoint, loading_settings
from pipeline.inference.video_file_index import VideoFileIndex, open_video_files
from pipeline.metrics.predictions import fixed_size_lists, provenance_of, with_provenance
from pipeline.processes.compute_device import forward_bytes, inference_device

_ASIDE = ("checkpoint", "versions", "dataset", "videos", "left_out", "device")  # the scores do not depend on these


@dataclass(frozen=True, kw_only=True)
class ClassExportOptions(OverwriteOptions, ComputeOptions, LoaderOptions):
    """File of scores.

    Attributes:
        out: Parquet file to write instead of printing: a row a video with key, path, top1 to the number of `top`, and
            scores, the probabilities of all classes. It continues where it was stopped; videos that cannot be read are
            listed in OUT.quarantine.csv and left out. Devices and loading are for this file alone.
        save_every: videos of a process between two saves of finished results, which are at most 30 seconds apart.
    """

    out: Path | None = None
    save_every: int = 64

    def check(self) -> None:
        """Raises ValueError if save_every is less than 1, or an option is given that is for `out` without it."""
        self.require_at_least(1, "save_every")
        if self.out is None:
            for field in fields(ClassExportOptions):
                value = getattr(self, field.name)
                if field.name not in ("out", "decoder") and value != field.default:
                    raise ValueError(f"{field.name}={value}: is for files of scores; give --out too")


class _ScoredBatches(pl.LightningModule):
    """Module whose predict step returns rows, scores (B, K) and failed videos of a batch."""

    def __init__(self, model: VideoClassifier | LinearHead, views_at_once: int) -> None:
        super().__init__()
        self.model = model
        self.model.views_at_once = views_at_once

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> tuple[torch.Tensor, torch.Tensor, Sequence[Any]]:
        """Scores a batch; no rows for an empty one."""
        if batch.num_videos == 0:
            return batch.rows, torch.zeros(0, len(self.model.class_names)), batch.failed
        return batch.rows, self.model.video_scores(batch).float(), batch.failed


def export_classes(
    videos: Sequence[str],
    trained: TrainedCheckpoint,
    model: VideoClassifier | LinearHead,
    preprocessing: Preprocessing,
    top: int,
    options: ClassExportOptions,
) -> None:
    """Writes the scores of videos to `options.out`.

    Args:
        videos: video files or folders of them; or the folder of one packed dataset.
        trained: the checkpoint.
        model: its network, or a linear classifier on it.
        preprocessing: the clips of a video.
        top: number of columns of the best classes.
        options: output, devices and loading.

    Raises:
        FileNotFoundError: there are no such files.
        ValueError: no video can be read, a packed dataset is given beside others, or `out` is another file.
    """
    assert options.out is not None
    out = options.out
    if out.suffix != ".parquet":
        raise ValueError(f"out={str(out)!r}: scores are written as Parquet; end the name in .parquet")
    if options.overwrite or not out.exists():
        refuse_unwritable_file(out)
    files, data = _open_videos(videos, preprocessing, options)
    provenance = _describe(trained, data, preprocessing, options)
    provenance |= {"classes": list(model.class_names), "task": model.task}
    provenance["linear_sha256"] = model.sha256 if isinstance(model, LinearHead) else None
    top = min(top, len(model.class_names))
    schema = _schema(top, len(model.class_names), provenance)
    if not options.overwrite and _is_exported(out, schema):
        remove_parts(out)
        print_text(f"{out} is there already, with the same settings")
        return
    left_out = list(provenance["left_out"])
    num_videos = 0

    def report_left_out(failures: list[tuple[int, str, str]]) -> None:
        if files is not None:
            left_out[:] = files.write_quarantine(failures)
        else:
            left_out.extend(data.index.entry(row).key for row, *_ in failures)

    def finish(path: Path, parts: PartRows) -> None:
        nonlocal num_videos
        num_videos = len(parts.videos)
        final = with_provenance(schema, provenance | {"left_out": left_out})
        with pq.ParquetWriter(path, final, compression="zstd", write_page_checksum=True) as writer:
            for table in parts.tables():
                writer.write_table(table.cast(final))

    callback = ResumableExport(
        out,
        {name: value for name, value in provenance.items() if name not in _ASIDE} | {"top": top},
        schema,
        lambda outputs: _to_rows(outputs, schema, data, model.class_names),
        data.index.readable_rows(ALL_VIDEOS),
        finish,
        options.save_every,
        "classify",
        options.overwrite,
        report_left_out=report_left_out,
    )
    clip_bytes = 4 * 3 * preprocessing.shape.num_frames * preprocessing.transform.crop_size**2
    limit = forward_bytes(inference_device(options.accelerator))
    views_at_once = 1 if preprocessing.sampler.method == "whole" else max(1, limit // clip_bytes)
    if run_over_split(_ScoredBatches(model, views_at_once).eval(), data, callback, options):
        verb = "is" if len(left_out) == 1 else "are"
        place = f" ({len(left_out)} {verb} left out{f', see {files.quarantine}' if files else ''})" if left_out else ""
        print_text(f"wrote {out}: the classes of {num_videos} videos{place}")


def _open_videos(
    videos: Sequence[str], preprocessing: Preprocessing, options: ClassExportOptions
) -> tuple[VideoFileIndex | None, ShardedVideoDataModule]:
    """Opens plain video files, or a packed dataset, for which the first result is None."""
    settings = _data_settings(preprocessing, options)
    if not any(map(is_packed_dataset, videos)):
        assert options.out is not None
        files = open_video_files(videos, options.out, options.overwrite)
        return files, ShardedVideoDataModule.from_index(files.index, **settings)
    if len(videos) > 1:
        raise ValueError(f"videos={' '.join(videos)}: a packed dataset is classified alone; name one")
    return None, ShardedVideoDataModule(videos[0], **settings)


def _data_settings(preprocessing: Preprocessing, options: ClassExportOptions) -> dict[str, Any]:
    """The clips of a preprocessing as options of the data module."""
    sampler, transform = preprocessing.sampler, preprocessing.transform
    return {
        **{field.name: getattr(sampler.shape, field.name) for field in fields(sampler.shape)},
        **loading_settings(options, options.accelerator, options.devices),
        "test_sampling": sampler.method,
        "num_clips": sampler.num_clips,
        "clip_step": sampler.step if sampler.method == "dense" else None,
        "max_frames": sampler.max_frames,
        "still": sampler.still,
        "crop_size": transform.crop_size,
        "resize": transform.resize,
        "test_split": ALL_VIDEOS,
        "predict_split": ALL_VIDEOS,
        "allow_missing": True,
    }


def _describe(
    trained: TrainedCheckpoint, data: ShardedVideoDataModule, preprocessing: Preprocessing, options: ClassExportOptions
) -> dict[str, Any]:
    """The provenance of the scores, as plain data."""
    index, loading = data.index, {"eval_batch_bytes", *(field.name for field in fields(LoaderOptions))}
    quarantined = list(index.column("key", index.quarantined))
    clips = {name: plain_data(value) for name, value in _data_settings(preprocessing, options).items()}
    return {
        "checkpoint": str(trained.path),
        "checkpoint_sha256": trained.sha256,
        **({} if trained.program is None else {"program": trained.program}),
        "dataset": index.name,
        "dataset_identity": index.identity,
        "videos": str(index.root),
        "left_out": quarantined,
        "sampling": {name: value for name, value in clips.items() if name not in loading},
        "decoder": describe_decoder(data.decoder),
        **describe_computation(options),
        "versions": library_versions(),
    }


def _schema(top: int, num_classes: int, provenance: dict[str, Any]) -> pa.Schema:
    names = [("key", pa.string()), ("path", pa.string()), *((f"top{rank}", pa.string()) for rank in range(1, top + 1))]
    return with_provenance(pa.schema([*names, ("scores", pa.list_(pa.float32(), num_classes))]), provenance)


def _to_rows(outputs: Any, schema: pa.Schema, data: ShardedVideoDataModule, class_names: Sequence[str]) -> StepRows:
    rows, scores, failed = outputs[0].cpu().numpy(), outputs[1].cpu().numpy(), outputs[2]
    names, order = np.asarray(class_names, dtype=object), np.argsort(-scores, axis=1, kind="stable")
    columns: dict[str, Any] = {
        "key": data.index.column("key", rows),
        "path": data.index.column("source", rows),
        "scores": fixed_size_lists(scores),
    }
    for field in schema:
        if field.name.startswith("top"):
            columns[field.name] = names[order[:, int(field.name[3:]) - 1]].tolist()
    table = pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
    return StepRows(table, rows, left_out=failed)


def _is_exported(out: Path, schema: pa.Schema) -> bool:
    """Whether `out` already holds these scores; raises ValueError if it holds anything else."""
    if not out.exists():
        return False
    expected = provenance_of(schema, out)
    try:
        found = pq.read_schema(out)
        # Files without the entries.
        about = {"arithmetic": "32-true on cpu", "task": expected["task"]} | provenance_of(found, out)
    except (pa.ArrowException, OSError, ValueError):
        raise ValueError(f"out={str(out)!r}: is there and is not a file of scores; choose another name") from None
    differing = [name for name in expected if name not in _ASIDE and about.get(name) != expected[name]]
    differing += [] if found.names == schema.names else ["top"]
    if differing:
        raise ValueError(
            f"out={str(out)!r}: holds scores with another {', '.join(differing)}; choose another name, or give "
            "--overwrite"
        )
    return True
