"""Checks that the renditions of a dataset match: the same videos with the same frames, each at its own size."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from datamodules.dataset.manifest import MANIFEST_NAME, Manifest, Rendition
from pipeline.dataset_tools.verify_checks import COPY_FIX, MAX_NAMED, DatasetDefect

# Columns that are equal in all renditions, row for row; bytes, sizes and hashes differ.
_SHARED = (
    *("key", "split", "fold_splits", "group", "label", "labels", "shard", "num_frames", "fps", "variable_rate"),
    *("source", "source_start", "source_end"),
)


def check_rendition(
    manifest: Manifest,
    table: pa.Table | None,
    rendition: Rendition,
    rendition_manifest: Manifest,
    rendition_table: pa.Table | None,
) -> list[DatasetDefect]:
    """Check a smaller rendition against the largest.

    Args:
        manifest: The manifest (dataset.json) of the largest rendition.
        table: The index of the largest rendition, or None where it cannot be read.
        rendition: The entry of the smaller rendition in `manifest`.
        rendition_manifest: The manifest of the smaller rendition.
        rendition_table: The index of the smaller rendition, or None where it cannot be read.
    """
    defects = []
    location = f"{rendition.folder}/{MANIFEST_NAME}"
    short_side = rendition_manifest.encode.get("short_side")
    if rendition_manifest.rendition_of != manifest.identity:
        defects.append(DatasetDefect(location, f"is not of a rendition of the dataset in {MANIFEST_NAME}", COPY_FIX))
    if short_side != rendition.short_side:
        defects.append(
            DatasetDefect(location, f"says short side {short_side}, {MANIFEST_NAME} {rendition.short_side}", COPY_FIX)
        )
    for name in ("name", "classes", "folds", "task"):
        if getattr(rendition_manifest, name) != getattr(manifest, name):
            defects.append(DatasetDefect(location, f"has another {name} than {MANIFEST_NAME}", COPY_FIX))
    if table is not None and rendition_table is not None:
        defects += _compare_rows(rendition, table, rendition_table)
    return defects


def _compare_rows(rendition: Rendition, table: pa.Table, rendition_table: pa.Table) -> list[DatasetDefect]:
    location = f"{rendition.folder}/index.parquet"
    keys, rendition_keys = (column_table.column("key").to_pylist() for column_table in (table, rendition_table))
    differing = sorted(set(keys) ^ set(rendition_keys))
    if differing:
        named = ", ".join(differing[:MAX_NAMED]) + (", ..." if len(differing) > MAX_NAMED else "")
        return [
            DatasetDefect(location, f"{len(differing)} videos are in one of the renditions alone: {named}", COPY_FIX)
        ]
    defects = []
    for name in [name for name in _SHARED if name in table.schema.names and name in rendition_table.schema.names]:
        pairs = zip(table.column(name).to_pylist(), rendition_table.column(name).to_pylist(), strict=True)
        rows = np.flatnonzero([one != other for one, other in pairs])
        if len(rows):
            named = ", ".join(keys[row] for row in rows[:MAX_NAMED]) + (", ..." if len(rows) > MAX_NAMED else "")
            defects.append(
                DatasetDefect(location, f"{name} of {len(rows)} videos is not as in index.parquet: {named}", COPY_FIX)
            )
    return defects


def in_subfolder(folder: Path, defect: DatasetDefect) -> DatasetDefect:
    """A defect of a rendition, with its place relative to the dataset's folder."""
    return defect._replace(location=f"{folder.name}/{defect.location}")
