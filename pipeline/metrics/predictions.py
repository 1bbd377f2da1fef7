"""predictions.parquet: one row a video, in the same format for networks and linear classifiers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from datamodules.batch import multi_hot
from datamodules.dataset.index_reader import VideoEntry
from datamodules.storage.plain_text import to_json

PREDICTIONS_NAME = "predictions.parquet"
REPORT_NAME = "report.json"
_PROVENANCE = b"provenance"
# Columns of results on datasets with segments: the file, and where in it the segment lies, in seconds.
SOURCE_FIELDS = (("source", pa.string()), ("source_start", pa.float64()), ("source_end", pa.float64()))


def with_provenance(schema: pa.Schema, provenance: Mapping[str, Any]) -> pa.Schema:
    """Adds the provenance of the rows, plain data, to the schema's metadata, as JSON."""
    return schema.with_metadata({_PROVENANCE: to_json(provenance, sort_keys=True).encode()})


def provenance_of(schema: pa.Schema, path: Path) -> dict[str, Any]:
    """Reads the provenance that `with_provenance` wrote.

    Raises:
        ValueError: the schema has none, so `path`, which the message names, was not written by this pipeline.
    """
    text = (schema.metadata or {}).get(_PROVENANCE)
    if text is None:
        raise ValueError(f"{path}: a Parquet file, but not one that this pipeline wrote")
    provenance: dict[str, Any] = json.loads(text)
    return provenance


def prediction_schema(num_classes: int, provenance: Mapping[str, Any]) -> pa.Schema:
    """Columns: key, label (int32), label_name, group, top1 to top5 (fewer where K < 5), correct, scores (K float32).

    Where the provenance's task is `multi_label`: labels (list of int32) and label_names (list of strings) in place of
    label and label_name; correct says whether the best class is among the labels.

    A video that could not be decoded, where such videos are allowed, has NaN scores and null in top1 to top5.
    """
    top_columns = [(f"top{rank}", pa.string()) for rank in range(1, min(5, num_classes) + 1)]
    label_columns = [("label", pa.int32()), ("label_name", pa.string())]
    if provenance.get("task") == "multi_label":
        label_columns = [("labels", pa.list_(pa.int32())), ("label_names", pa.list_(pa.string()))]
    schema = pa.schema(
        [
            ("key", pa.string()),
            *label_columns,
            ("group", pa.string()),
            *top_columns,
            ("correct", pa.bool_()),
            ("scores", pa.list_(pa.float32(), num_classes)),
        ]
    )
    return with_provenance(schema, provenance)


def prediction_table(
    schema: pa.Schema,
    keys: Sequence[str],
    labels: NDArray[Any],
    scores: NDArray[Any],
    class_names: Sequence[str],
    groups: Sequence[str] | None = None,
    missing: bool = False,
) -> pa.Table:
    """A table of predictions with `schema`.

    Args:
        schema: the schema, from `prediction_schema`.
        keys: keys of the B videos; B may be 0.
        labels: integers (B,), class numbers in [0, K); with several labels (B, K), 1 where the video has the class.
        scores: float (B, K), higher is likelier; among equal scores the first class comes first.
        class_names: the K class names, in the order of the labels.
        groups: groups of the B videos, the source that each was cut from; default: "", no group.
        missing: accept rows of NaN as videos without scores, which are not correct and have no top1 to top5.

    Raises:
        ValueError: scores are not finite; the message names the first such video.
    """
    is_missing = np.isnan(scores).all(axis=1) & missing
    is_broken = ~np.isfinite(scores).all(axis=1) & ~is_missing
    if is_broken.any():
        raise ValueError(f"the scores of {keys[int(is_broken.argmax())]} are not finite: did the training diverge?")
    names = np.asarray(class_names, dtype=object)
    order = np.argsort(-scores, axis=1, kind="stable")
    label_columns: dict[str, Any]
    if np.ndim(labels) == 2:
        is_hit = np.take_along_axis(np.asarray(labels), order[:, :1], axis=1)[:, 0] > 0
        several = [np.flatnonzero(row) for row in labels]
        label_columns = {"labels": several, "label_names": [names[numbers].tolist() for numbers in several]}
    else:
        is_hit = order[:, 0] == labels
        label_columns = {"label": np.asarray(labels, dtype=np.int32), "label_name": names[labels].tolist()}
    columns: dict[str, Any] = {
        "key": list(keys),
        **label_columns,
        "group": [""] * len(keys) if groups is None else list(groups),
        "correct": is_hit & ~is_missing,
        "scores": fixed_size_lists(scores),
    }
    for rank in range(min(5, len(names))):
        columns[f"top{rank + 1}"] = np.where(is_missing, np.array(None), names[order[:, rank]]).tolist()
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def with_source_times(table: pa.Table, entries: Sequence[VideoEntry]) -> pa.Table:
    """Adds columns to predictions of a dataset with segments: source, and source_start and source_end in seconds.

    Args:
        table: predictions of B videos.
        entries: the B videos in the index; start and end are null for whole videos.
    """
    for name, kind in SOURCE_FIELDS:
        table = table.append_column(name, pa.array([getattr(entry, name) for entry in entries], kind))
    return table


def read_predictions(path: Path) -> tuple[NDArray[np.float32], pa.Table]:
    """Reads a predictions.parquet: the scores, float32 (M, K), and the whole table."""
    table = pq.read_table(path, page_checksum_verification=True)
    return from_fixed_size_lists(table.column("scores")), table


def read_labels(table: pa.Table, num_classes: int) -> NDArray[Any]:
    """The labels in a table with the columns `label` or `labels`: int64 (M,), or uint8 (M, K) for several labels."""
    if "labels" in table.column_names:
        return multi_hot(table.column("labels").to_pylist(), num_classes).numpy()
    labels: NDArray[np.int64] = table.column("label").to_numpy().astype(np.int64)
    return labels


def fixed_size_lists(rows: NDArray[Any]) -> pa.FixedSizeListArray:
    """Rows (M, D) as an Arrow column of M lists of D float32."""
    flat = np.ascontiguousarray(rows, dtype=np.float32).ravel()
    return pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), rows.shape[1])


def from_fixed_size_lists(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """An Arrow column of M lists of D float32 as an array (M, D)."""
    size = column.type.list_size
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False).reshape(-1, size) for chunk in column.chunks]
    return np.concatenate([np.empty((0, size), np.float32), *chunks])
