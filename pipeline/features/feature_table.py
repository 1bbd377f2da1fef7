"""What the network gives, with what the dataset's index knows of the videos: the rows of a file of features."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datamodules.datamodule import ShardedVideoDataModule
from pipeline.features.feature_files import Dtype, column_of, feature_column
from pipeline.features.layer_features import VIDEO, ExportedFeatures


def feature_table(
    schema: pa.Schema, exported: ExportedFeatures, videos: ShardedVideoDataModule, seen: NDArray[np.int64], dtype: Dtype
) -> pa.Table:
    """Rows of `schema`; what is known of the videos comes from the index; `seen` are rows there."""
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
        "seen": np.isin(rows, seen),
        "clip": [None if clip == VIDEO else clip for clip in exported.clips.tolist()],
        "clip_start": exported.times[:, 0].numpy(),
        "clip_end": exported.times[:, 1].numpy(),
    }
    names = list(exported.features)
    for layer, values in exported.features.items():
        column = column_of(layer, names)
        size = schema.field(column).type.list_size
        columns[column] = feature_column(values.numpy().reshape(len(rows), size), dtype)
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)
