"""`python -m pipeline features`: named layers' features of every video of a split, in one file."""

import time
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datamodules.datamodule import ShardedVideoDataModule
from datamodules.dataset.renditions import WantedRendition
from datamodules.sampling.clip_sampling import ShortVideos
from datamodules.transforms.yuv420 import Pixels
from datamodules.video.decoding import Decoder
from pipeline.cli.terminal import say
from pipeline.features.feature_files import (
    SUFFIXES,
    Dtype,
    Format,
    feature_schema,
    read_features,
    read_provenance,
)
from pipeline.features.feature_writing import feature_table, write_features
from pipeline.features.layer_features import ExportedFeatures, FeatureExport, Per, Pool, pool
from pipeline.inference.output_paths import refuse_unwritable_file
from pipeline.inference.part_folder import remove_parts
from pipeline.inference.part_rows import PartRows
from pipeline.inference.protocols import TransferProtocolName, with_protocol
from pipeline.inference.resumable_export import ResumableExport, StepRows
from pipeline.inference.split_runner import Precision, explain_decode_failure, run_over_split
from pipeline.inference.trained_checkpoint import (
    TrainedCheckpoint,
    describe_checkpoint,
    open_checkpoint,
    open_data,
    split_row_numbers,
    try_one_clip,
    view_settings,
)
from pipeline.inference.training_overlap import overlap_with_checkpoint, training_split

__all__ = ["features", "read_features", "read_provenance"]  # what reads the files back, beside what writes them


def features(
    checkpoint: Path,
    data: Path,
    out: Path,
    split: str = "test",
    fold: str | None = None,
    layer: list[str] | None = None,
    pool: Pool = "mean",
    per: Per = "video",
    protocol: TransferProtocolName | None = None,
    num_clips: int | None = None,
    clip_step: int | None = None,
    whole: bool | None = None,
    max_frames: int = 512,
    num_crops: Literal[1, 3] = 1,
    format: Format = "parquet",
    dtype: Dtype = "float32",
    overwrite: bool = False,
    save_every: int = 64,
    batch_size: int = 8,
    num_workers: int = 2,
    decoder: Decoder = "auto",
    pixels: Pixels = "rgb",
    accelerator: str = "auto",
    devices: int = 1,
    precision: Precision = "32-true",
    allow: list[str] | None = None,
    num_frames: int | None = None,
    frame_interval: int | None = None,
    fps: float | None = None,
    crop_size: int | None = None,
    resize: int | tuple[int, int] | None = None,
    rendition: WantedRendition | None = None,
    short_videos: ShortVideos | None = None,
    still: bool | None = None,
) -> None:
    """Export the features that named layers of a checkpoint give for every video of a split.

    The file has key, label, label_name, split, group, seen (the network was trained on the video, or its group) and
    feature, a list of fixed size; where it came from is in its metadata. `pipeline.features.features.read_features`
    reads any format, pandas and pyarrow the Parquet one. An export that was stopped goes on from the finished parts in
    OUT.parts when the same command is given again, with any number of devices.

    Args:
        checkpoint: file that `fit` wrote, or a name that `python -m pipeline weights list` prints.
        data: folder of the packed dataset; its classes may be others than the checkpoint's.
        out: the file to write; one of the same settings is left as it is.
        split: videos to export.
        fold: for datasets with folds; default: the fold the checkpoint was trained in.
        layer: names of endpoints of the network; default: the network's own choice, such as C3D's fc6. Several make a
            column each, feature_NAME.
        pool: mean or max over time and space; time keeps the time steps (mean over space); none keeps all. The shape
            of what is kept is in the metadata.
        per: a row a video, the mean over its views; a row a clip, with its start and end in seconds; or both.
        protocol: take the layer and clips of a paper: lrcn, c3d or i3d; options given beside it win.
        num_clips: clips a video, spread evenly; default: 10.
        clip_step: take clips this many source frames apart instead. C3D's paper has 8, for clips of 16 frames.
        whole: take all of a video as one clip instead, for networks that take any number of frames.
        max_frames: of a clip of a whole video; a longer video gives several, evenly.
        num_crops: crops a clip: 1 (the center) or 3 (along the longer side); their features are averaged.
        format: parquet; npz (an array a column); or webdataset, a tar with KEY.npy and KEY.json for each video.
        dtype: of the features: float32, or float16 at half the size.
        overwrite: replace a file of other settings, or parts of them.
        save_every: videos of a process between two parts: what is lost, at most, when it is killed.
        batch_size: videos in a step of one process, at most.
        num_workers: processes that decode, for each process that computes.
        decoder: auto, pyav, decord or torchcodec; which one it was is recorded.
        pixels: how clips travel to the device: rgb; or i420, half the bytes, converted to the same RGB there.
        accelerator: Lightning's: auto, cpu, gpu, ...
        devices: processes or GPUs that compute; the result is the same with any number.
        precision: 32-true, or bf16-mixed, which is several times faster where the processor or GPU has bfloat16 units
            (AMX, tensor cores), slower where it has none, and moves features in the third digit; recorded with them.
        allow: modules that the checkpoint's model class may come from, besides lightning_modules.
        num_frames: frames of a clip, in place of the training's.
        frame_interval: source frames from one frame of a clip to the next, in place of the training's.
        fps: take frames at this rate, in place of the training's.
        crop_size: pixels of height and width, in place of the training's.
        resize: short side, or [height, width], before cropping, in place of the training's.
        rendition: short side of the rendition to read, or auto, for a dataset packed in several sizes; default: the one
            trained on, on the same dataset, else auto: the smallest that is as large as `resize` asks for.
        short_videos: loop, repeat_last or error, in place of the training's.
        still: repeat one frame in every clip: what can be told without motion; default: as in training.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: the checkpoint, layer, dataset, split, fold or clips do not go together, or `out` holds something
            else.
        DecodeError: a video cannot be decoded; what is done is kept in OUT.parts.
    """
    began = time.monotonic()
    meant = SUFFIXES.get(out.suffix, format)
    if meant != format:
        raise ValueError(f"out={str(out)!r}: the name of a {meant} file; say --format {meant}, or choose another name")
    if overwrite or not out.exists():
        refuse_unwritable_file(out)
    clips = {
        "num_frames": num_frames,
        "frame_interval": frame_interval,
        "fps": fps,
        "crop_size": crop_size,
        "resize": resize,
        "rendition": rendition,
        "short_videos": short_videos,
        "still": still,
    }
    given = {"layer": layer, "num_clips": num_clips, "clip_step": clip_step, "whole": whole}
    chosen = with_protocol(protocol, "features", given | clips)
    whole = bool(chosen["whole"])
    views = view_settings(chosen["num_clips"], chosen["clip_step"], whole, max_frames, num_crops)
    trained = open_checkpoint(checkpoint, allow)
    videos = open_data(
        trained,
        data,
        split,
        fold,
        {name: chosen[name] for name in clips},
        same_classes=False,
        **views,
        batch_size=batch_size,
        num_workers=num_workers,
        decoder=decoder,
        pixels=pixels,
    )
    layers = list(dict.fromkeys(chosen["layer"] or [trained.model.feature_layer]))
    shapes = {name: _shape_of(trained, videos, name, pool, whole) for name in layers}
    provenance = describe_checkpoint(trained, videos) | {"layers": shapes, "pool": pool, "per": per, "dtype": dtype}
    provenance |= {"format": format, "precision": precision, "trained_on": training_split(trained)}
    if len(layers) == 1:
        provenance |= {"layer": layers[0], "dimension": int(np.prod(shapes[layers[0]]))}
    if not overwrite and _is_there_already(out, provenance):
        remove_parts(out)  # of a run that was killed at its very end
        say(f"{out} is there already, with the same settings")
        return
    num_rows = _export(out, trained, videos, provenance, save_every, overwrite, accelerator, devices, precision)
    if num_rows is not None:
        what = f"{len(split_row_numbers(videos))} videos"
        what = what if per == "video" else f"{num_rows} rows of {what}"
        if provenance["quarantined"]:
            what += f" ({len(provenance['quarantined'])} are quarantined and left out)"
        numbers = " and ".join(" x ".join(map(str, shape)) for shape in shapes.values())
        seconds = f"{time.monotonic() - began:.0f} s"
        say(f"wrote {out}: {' and '.join(layers)} of {what} of {split}, {numbers} numbers each, in {seconds}")


def _export(
    out: Path,
    trained: TrainedCheckpoint,
    videos: ShardedVideoDataModule,
    provenance: dict[str, Any],
    save_every: int,
    overwrite: bool,
    accelerator: str,
    devices: int,
    precision: Precision,
) -> int | None:
    """Runs the network and writes the file; the number of its rows, None on every rank but the first."""
    schema, rows = feature_schema(provenance), split_row_numbers(videos)
    seen = rows[overlap_with_checkpoint(trained, videos.index, rows).any]

    def to_rows(exported: ExportedFeatures) -> StepRows:
        return StepRows(feature_table(schema, exported, videos, seen, provenance["dtype"]), exported.rows.numpy())

    num_rows = 0

    def finish(path: Path, parts: PartRows) -> None:
        nonlocal num_rows
        num_rows = parts.num_rows
        write_features(path, provenance["format"], schema, parts.tables)

    # A video that is quarantined after it failed changes no other row, and another format not one.
    apart = ("checkpoint", "quarantined", "format", "layers", "dimension")
    settings = {name: value for name, value in provenance.items() if name not in apart}
    settings["layer"] = provenance["layers"]
    callback = ResumableExport(out, settings, schema, to_rows, rows, finish, save_every, "features", overwrite)
    per, crops = provenance["per"], videos.options.num_crops
    export = FeatureExport(trained.model, list(provenance["layers"]), per, crops, provenance["pool"]).eval()
    with explain_decode_failure(videos.index, "; then the same command goes on with the others"):
        first_rank = run_over_split(export, videos, callback, accelerator, devices, precision)
    return num_rows if first_rank else None


def _shape_of(
    trained: TrainedCheckpoint, videos: ShardedVideoDataModule, layer: str, how: Pool, whole: bool
) -> list[int]:
    """The shape of a layer's feature of one clip.

    Raises:
        ValueError: no such layer, a network built for other clips, or a shape that would differ from video to video.
    """
    feature = try_one_clip(trained, videos, layer)
    if whole and how in ("time", "none") and feature.ndim > 2:
        raise ValueError(
            f"pool={how!r}: whole videos differ in length, and so would what is kept of {layer}; use --pool mean or "
            "max, or clips: --clip-step with --per clip"
        )
    return list(pool(feature, how).shape[1:])


def _is_there_already(out: Path, provenance: dict[str, Any]) -> bool:
    """Whether `out` holds what would be written; ValueError where it holds anything else."""
    if not out.exists():
        return False
    try:
        found = {"precision": "32-true"} | read_provenance(out)  # a file from before there was a choice
    except (ValueError, OSError):
        raise ValueError(f"out={str(out)!r}: is there and is not a file of features; choose another name") from None
    aside = ("checkpoint", "versions")  # the same checkpoint elsewhere, newer libraries: still the same features
    differ = [name for name in provenance if name not in aside and found.get(name) != provenance[name]]
    if differ:
        names = dict.fromkeys("layer" if name in ("layers", "dimension") else name for name in differ)
        raise ValueError(
            f"out={str(out)!r}: holds features with another {', '.join(names)}; choose another name, or say --overwrite"
        )
    return True
