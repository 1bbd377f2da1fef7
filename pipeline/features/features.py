"""`python -m pipeline features`: export of layer outputs for every video of a split to one file."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.annotations.records import ALL_VIDEOS
from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.open_dataset import open_manifest
from datamodules.splits.split_file import PACKED
from pipeline.cli.terminal import print_text
from pipeline.features.feature_files import (
    SUFFIXES,
    feature_schema,
    read_features,
    read_provenance,
)
from pipeline.features.feature_options import FeatureOptions
from pipeline.features.feature_writing import feature_table, write_features
from pipeline.features.layer_features import ExportedFeatures, FeatureExport, Pooling, pool_features
from pipeline.inference.output_paths import refuse_unwritable_file
from pipeline.inference.part_folder import remove_parts
from pipeline.inference.part_rows import PartRows
from pipeline.inference.protocols import apply_protocol
from pipeline.inference.provenance import describe_checkpoint, describe_computation
from pipeline.inference.resumable_export import ResumableExport, StepRows
from pipeline.inference.split_runner import explain_decode_failure, run_over_split, try_layers
from pipeline.inference.trained_checkpoint import (
    TrainedCheckpoint,
    open_checkpoint,
    open_data,
    split_row_numbers,
)
from pipeline.inference.trained_split_file import trained_split_file, with_split_digests
from pipeline.inference.training_overlap import overlap_with_checkpoint, training_split
from pipeline.inference.video_file_index import VideoFileIndex, open_video_files

__all__ = ["features", "read_features", "read_provenance"]  # the readers of the files are part of the interface


def features(options: FeatureOptions) -> None:
    """Export the outputs of named layers of a checkpoint for every video of a split.

    The file has key, label, label_name, split, group, seen (the network was trained on the video, or its group) and
    feature, a list of fixed size; for segments also their source and times in it; its provenance is in the metadata.
    `pipeline.features.features.read_features` reads any format, pandas and pyarrow the Parquet one. A stopped export
    resumes from the finished parts in OUT.parts when the same command is run again, with any number of devices.

    Args:
        options: checkpoint, layers, videos and output format.

    Raises:
        FileNotFoundError: the checkpoint does not exist.
        ValueError: the checkpoint, layer, dataset, split, fold or clips do not fit together, or `out` is another file.
        DecodeError: a video cannot be decoded; finished parts are kept in OUT.parts.
    """
    began = time.monotonic()
    options = replace(options, **apply_protocol(options.protocol, "features", vars(options)))
    out, format, per = options.out, options.format, options.per
    expected_format = SUFFIXES.get(out.suffix, format)
    if expected_format != format:
        raise ValueError(
            f"out={str(out)!r}: the name of a {expected_format} file; give --format {expected_format}, or choose "
            "another name"
        )
    if options.overwrite or not out.exists():
        refuse_unwritable_file(out)
    trained = open_checkpoint(options.checkpoint, options.allow)
    files, videos = _open_videos(trained, options)
    layers = list(dict.fromkeys(options.layer or [trained.model.feature_layer]))
    shapes = _pooled_shapes(trained, videos, layers, options.pool)
    provenance = describe_checkpoint(trained, videos) | {"layers": shapes, "pool": options.pool, "per": per}
    provenance |= {"dtype": options.dtype, "format": format} | describe_computation(options)
    provenance["trained_on"] = training_split(trained)
    if videos.index.has_segments:
        provenance["source_times"] = True
    if files is not None:
        provenance["videos"] = str(files.index.root)
    if len(layers) == 1:
        provenance |= {"layer": layers[0], "dimension": int(np.prod(shapes[layers[0]]))}
    if not options.overwrite and _is_exported(out, provenance):
        remove_parts(out)  # of a run that was killed at its very end
        print_text(f"{out} is there already, with the same settings")
        return
    exported = _export(trained, files, videos, provenance, options)
    if exported is None:
        return
    subject = f"{exported.num_videos} videos"
    subject = subject if per == "video" else f"{exported.num_rows} rows of {subject}"
    if exported.left_out:
        verb = "is" if len(exported.left_out) == 1 else "are"
        place = f"{verb} quarantined and" if files is None else f"{verb} listed in {files.quarantine} and"
        subject += f" ({len(exported.left_out)} {place} left out)"
    numbers = " and ".join(" x ".join(map(str, shape)) for shape in shapes.values())
    source, seconds = provenance.get("videos", provenance["split"]), f"{time.monotonic() - began:.0f} s"
    print_text(f"wrote {out}: {' and '.join(layers)} of {subject} of {source}, {numbers} numbers each, in {seconds}")


def _open_videos(
    trained: TrainedCheckpoint, options: FeatureOptions
) -> tuple[VideoFileIndex | None, ShardedVideoDataModule]:
    """Opens plain video files, or a split of a packed dataset, for which the first result is None."""
    if options.data is None:
        files = open_video_files(options.videos or [], options.out, options.overwrite)
        return files, files.data_module(trained, options)
    split_file = options.split_file or trained_split_file(trained.dataset, options.data)
    split = options.split or _default_split(options.data, split_file)
    data = open_data(
        trained, options.data, split, options.fold, options, same_classes=False, split_file=options.split_file
    )
    return None, data


def _default_split(data: Path, split_file: str | None) -> str:
    """Returns the split of all videos of a dataset that is not divided, else `test`."""
    if split_file not in (None, PACKED):
        return "test"
    return ALL_VIDEOS if open_manifest(data).is_undivided else "test"


class _Exported(NamedTuple):
    """Numbers of videos and rows in a file, and keys of the videos that were left out."""

    num_videos: int
    num_rows: int
    left_out: Sequence[str]


def _export(
    trained: TrainedCheckpoint,
    files: VideoFileIndex | None,
    videos: ShardedVideoDataModule,
    provenance: dict[str, Any],
    options: FeatureOptions,
) -> _Exported | None:
    """Runs the network and writes the file; returns the counts on rank 0, None on others."""
    schema, rows = feature_schema(provenance), split_row_numbers(videos)
    trained_rows = rows[overlap_with_checkpoint(trained, videos.index, rows).any]
    exported = _Exported(0, 0, provenance["quarantined"])

    def to_rows(batch: ExportedFeatures) -> StepRows:
        table = feature_table(schema, batch, videos, trained_rows, provenance["dtype"])
        return StepRows(table, batch.rows.numpy(), left_out=batch.failed)

    def report_left_out(failures: list[tuple[int, str, str]]) -> None:
        nonlocal exported
        if files is not None:
            exported = exported._replace(left_out=files.write_quarantine(failures))

    def finish(path: Path, parts: PartRows) -> None:
        nonlocal exported
        exported = exported._replace(num_videos=len(parts.videos), num_rows=parts.num_rows)
        final_schema = feature_schema(provenance | {"quarantined": list(exported.left_out)})
        write_features(path, provenance["format"], final_schema, parts.tables)

    # Rows depend neither on newly quarantined videos nor on the format, nor on where plain video files lie.
    not_settings = ["checkpoint", "quarantined", "format", "layers", "dimension", "device"]
    not_settings += [] if files is None else ["dataset", "videos"]
    settings = {name: value for name, value in with_split_digests(provenance).items() if name not in not_settings}
    settings["layer"] = provenance["layers"]
    callback = ResumableExport(
        options.out,
        settings,
        schema,
        to_rows,
        rows,
        finish,
        options.save_every,
        "features",
        options.overwrite,
        report_left_out=report_left_out,
    )
    per, crops = provenance["per"], videos.options.num_crops
    export = FeatureExport(trained.model, list(provenance["layers"]), per, crops, provenance["pool"]).eval()
    with explain_decode_failure(videos.index, "; then the same command goes on with the others"):
        is_first_rank = run_over_split(export, videos, callback, options)
    return exported if is_first_rank else None


def _pooled_shapes(
    trained: TrainedCheckpoint, videos: ShardedVideoDataModule, layers: Sequence[str], pooling: Pooling
) -> dict[str, list[int]]:
    """Returns the shape of each layer's pooled output for one clip.

    Raises:
        ValueError: a layer does not exist, the network was built for other clips, or a shape would vary by video.
    """
    outputs = try_layers(trained, videos, layers)
    for layer, feature in outputs.items():
        if videos.options.test_sampling == "whole" and pooling in ("time", "none") and feature.ndim > 2:
            raise ValueError(
                f"pool={pooling!r}: whole videos differ in length, and so would what is kept of {layer}; use --pool "
                "mean or max, or clips: --clip-step with --per clip"
            )
    return {layer: list(pool_features(outputs[layer], pooling).shape[1:]) for layer in layers}


def _is_exported(out: Path, provenance: dict[str, Any]) -> bool:
    """Whether `out` already holds these features; raises ValueError if it holds anything else."""
    if not out.exists():
        return False
    try:
        found = {"precision": "32-true", "arithmetic": "32-true on cpu"} | read_provenance(out)  # if it has no entry
    except (ValueError, OSError):
        raise ValueError(f"out={str(out)!r}: is there and is not a file of features; choose another name") from None
    # Features depend neither on paths nor, in practice, on library versions or the model of a GPU. Which plain video
    # files cannot be decoded is known only after the export.
    of_files = ("dataset", "videos", "quarantined") if "videos" in provenance else ()
    not_compared = ("checkpoint", "versions", "device", *of_files)
    found, wanted = with_split_digests(found), with_split_digests(provenance)
    differing = [name for name in wanted if name not in not_compared and found.get(name) != wanted[name]]
    if differing:
        names = dict.fromkeys("layer" if name in ("layers", "dimension") else name for name in differing)
        raise ValueError(
            f"out={str(out)!r}: holds features with another {', '.join(names)}; choose another name, or "
            "give --overwrite"
        )
    return True
