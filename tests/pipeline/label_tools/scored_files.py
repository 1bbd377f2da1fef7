"""Made results: scores of a few videos as the files that `evaluate` and `classify --out` write."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.annotations.video_files import make_keys
from pipeline.metrics.predictions import (
    SOURCE_FIELDS,
    fixed_size_lists,
    prediction_schema,
    prediction_table,
    with_provenance,
)

CLASSES = ["jump & run", "walk", "<stand>"]
ABOUT = {"classes": CLASSES, "scores": "probability", "checkpoint": "runs/best.ckpt", "checkpoint_sha256": "ab" * 32}


def write_results(
    path: Path,
    keys: Sequence[str],
    rows: Sequence[Sequence[float]],
    places: Sequence[tuple[str, float | None, float | None]] | None = None,
    **about: object,
) -> Path:
    """A predictions.parquet, with the columns of segments where there are places; labels are all the first class."""
    provenance = ABOUT | about
    names = list(provenance["classes"])
    several = provenance.get("task") == "multi_label"
    labels = np.zeros((len(keys), len(names)), np.uint8) if several else np.zeros(len(keys), np.int64)
    schema = prediction_schema(len(names), provenance)
    table = prediction_table(schema, keys, labels, np.array(rows, np.float32), names, missing=True)
    for (name, kind), values in zip(SOURCE_FIELDS, zip(*(places or ()), strict=True), strict=bool(places)):
        table = table.append_column(name, pa.array(values, kind))
    path.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path / "predictions.parquet")
    return path


def write_scores(
    path: Path, videos: Path, names: Sequence[str], scores: Sequence[Sequence[float]], **about: object
) -> Path:
    """A file of `classify --out`, of files in a folder."""
    rows = np.array(scores, np.float32)
    keys = make_keys(names)
    table = pa.table({"key": keys, "path": list(names), "scores": fixed_size_lists(rows)})
    known = {name: value for name, value in ABOUT.items() if name != "scores"} | {"videos": str(videos)}
    pq.write_table(table.cast(with_provenance(table.schema, known | about)), path)
    return path
