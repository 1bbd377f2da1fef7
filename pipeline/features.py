"""`python -m pipeline features`: a layer's features of every video of a split, in one Parquet file."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from datamodules.clips import ShortVideos
from datamodules.renditions import WantedRendition
from datamodules.video import Decoder, ShardedVideoDataModule
from pipeline.feature_export import ExportedFeatures, FeatureExport, pool
from pipeline.inference import run_over_split
from pipeline.predictions import fixed_size_lists, from_fixed_size_lists, provenance_of, with_provenance
from pipeline.rank_tables import RankTables
from pipeline.trained import describe, open_checkpoint, open_data, rows_of, try_one_clip, view_settings


def features(
    checkpoint: Path,
    data: Path,
    out: Path,
    split: str = "test",
    fold: str | None = None,
    layer: str | None = None,
    per: Literal["video", "clip"] = "video",
    num_clips: int | None = None,
    clip_step: int | None = None,
    whole: bool = False,
    max_frames: int = 512,
    num_crops: Literal[1, 3] = 1,
    overwrite: bool = False,
    batch_size: int = 8,
    num_workers: int = 2,
    decoder: Decoder = "auto",
    accelerator: str = "auto",
    devices: int = 1,
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
    """Export the features that a named layer of a checkpoint gives for every video of a split.

    A clip's feature is the layer's output, averaged over time and space where it has them. The file has a row a video:
    key, label, label_name, split, group and feature, a fixed-size list of float32; where it came from is in its
    metadata. `pipeline.features.read_features` reads it, and so do pandas, pyarrow and polars.

    Args:
        checkpoint: file that `fit` wrote, or a name that `python -m pipeline weights list` prints.
        data: folder of the packed dataset; its classes may be others than the checkpoint's.
        out: the Parquet file to write; one of the same settings is left as it is.
        split: videos to export.
        fold: for datasets with folds; default: the fold the checkpoint was trained in.
        layer: name of an endpoint of the network; default: the network's own choice, such as C3D's fc6.
        per: a row a video, the mean over its views; or a row a clip, with its start and end in seconds.
        num_clips: clips a video, spread evenly; default: 10.
        clip_step: take clips this many source frames apart instead. C3D's paper has 8, for clips of 16 frames.
        whole: take all of a video as one clip instead, for networks that take any number of frames.
        max_frames: of a clip of a whole video; a longer video gives several, evenly.
        num_crops: crops a clip: 1 (the center) or 3 (along the longer side); their features are averaged.
        overwrite: replace a file of other settings.
        batch_size: videos in a step of one process, at most.
        num_workers: processes that decode, for each process that computes.
        decoder: auto, pyav, decord or torchcodec; which one it was is recorded.
        accelerator: Lightning's: auto, cpu, gpu, ...
        devices: processes or GPUs that compute; the result is the same with any number.
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
        DecodeError: a video cannot be decoded; nothing is written.
    """
    began = time.monotonic()
    views = view_settings(num_clips, clip_step, whole, max_frames, num_crops)
    trained = open_checkpoint(checkpoint, allow)
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
    videos = open_data(
        trained,
        data,
        split,
        fold,
        clips,
        same_classes=False,
        **views,
        batch_size=batch_size,
        num_workers=num_workers,
        decoder=decoder,
    )
    layer = layer or trained.model.feature_layer
    size = pool(try_one_clip(trained, videos, layer)).shape[1]
    provenance = describe(trained, videos) | {"layer": layer, "per": per, "dimension": size}
    if not overwrite and _is_there_already(out, provenance):
        print(f"{out} is there already, with the same settings")
        return
    schema = feature_schema(size, per, provenance)

    def to_table(exported: ExportedFeatures) -> pa.Table:
        return feature_table(schema, exported, videos)

    keys = videos.index.column("key", rows_of(videos))
    tables = RankTables(out, schema, to_table, list(keys), "features")
    export = FeatureExport(trained.model, layer, per == "clip", num_crops).eval()
    if run_over_split(export, videos, tables, "predict", accelerator, devices) is not None:
        num_rows = pq.read_metadata(out).num_rows
        what = f"{num_rows} clips of {len(keys)} videos" if per == "clip" else f"{num_rows} videos"
        if provenance["quarantined"]:
            what += f" ({len(provenance['quarantined'])} are quarantined and left out)"
        print(f"wrote {out}: {layer} of {what} of {split}, {size} numbers each, in {time.monotonic() - began:.0f} s")


def feature_schema(size: int, per: Literal["video", "clip"], provenance: Mapping[str, Any]) -> pa.Schema:
    """Columns: key, label (int32), label_name, split, group, feature (`size` float32); a row a clip has its times too.

    For `per="clip"`: clip (int32, from 0 in each video), clip_start and clip_end (float64, seconds) before feature.
    """
    clip = [("clip", pa.int32()), ("clip_start", pa.float64()), ("clip_end", pa.float64())] if per == "clip" else []
    names = ("label_name", "split", "group")
    return with_provenance(
        pa.schema(
            [
                ("key", pa.string()),
                ("label", pa.int32()),
                *((name, pa.string()) for name in names),
                *clip,
                ("feature", pa.list_(pa.float32(), size)),
            ]
        ),
        provenance,
    )


def feature_table(schema: pa.Schema, exported: ExportedFeatures, videos: ShardedVideoDataModule) -> pa.Table:
    """Rows of `schema`; what is known of the videos comes from the dataset's index."""
    index, rows, fold = videos.index, exported.rows.numpy(), videos.hparams["fold"]
    labels = index.column("label", rows)
    splits = index.column("split", rows)
    if fold is not None:
        number = index.folds.index(str(fold))
        splits = [of[number] for of in index.column("fold_splits", rows)]
    columns: dict[str, Any] = {
        "key": index.column("key", rows),
        "label": labels,
        "label_name": [index.classes[label] for label in labels],
        "split": splits,
        "group": index.column("group", rows),
        "clip": exported.clips.numpy(),
        "clip_start": exported.times[:, 0].numpy(),
        "clip_end": exported.times[:, 1].numpy(),
        "feature": fixed_size_lists(
            exported.features.numpy().reshape(len(rows), schema.field("feature").type.list_size)
        ),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def read_features(path: str | Path) -> tuple[NDArray[np.float32], pa.Table]:
    """Reads a file that `features` wrote.

    Args:
        path: of the Parquet file.

    Returns:
        The features, float32 (M, D), and a table with the other columns of the M rows: key, label, label_name, split,
        group, and for rows of clips clip, clip_start and clip_end (seconds). `read_provenance` gives the metadata.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a file of features.
    """
    table = _open(Path(path)).read()
    return from_fixed_size_lists(table.column("feature")), table.drop_columns("feature")


def read_provenance(path: str | Path) -> dict[str, Any]:
    """Where the features in a file come from: checkpoint, checkpoint_sha256, layer, sampling, decoder, classes, ...

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a file of features.
    """
    return provenance_of(_open(Path(path)).schema_arrow, Path(path))


def _open(path: Path) -> pq.ParquetFile:
    if not path.is_file():
        raise FileNotFoundError(f"features {str(path)!r}: no such file; `python -m pipeline features` writes them")
    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"features {str(path)!r}: not a Parquet file ({str(error).splitlines()[0]})") from None
    if "feature" not in file.schema_arrow.names:
        raise ValueError(f"features {str(path)!r}: has no column 'feature'; give a file that `features` wrote")
    return file


def _is_there_already(out: Path, provenance: dict[str, Any]) -> bool:
    """Whether `out` holds what would be written; ValueError where it holds anything else."""
    if not out.exists():
        return False
    try:
        found = read_provenance(out)
    except (ValueError, OSError):
        raise ValueError(f"out={str(out)!r}: is there and is not a file of features; choose another name") from None
    aside = ("checkpoint", "versions")  # the same checkpoint elsewhere, newer libraries: still the same features
    differ = [name for name in provenance if name not in aside and found.get(name) != provenance[name]]
    if differ:
        raise ValueError(
            f"out={str(out)!r}: holds features with another {', '.join(differ)}; choose another name, or say "
            "--overwrite"
        )
    return True
