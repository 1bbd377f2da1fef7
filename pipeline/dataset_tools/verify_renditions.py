"""Checks that the renditions of a dataset match: the same videos with the same frames, each at its own size."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from datamodules.dataset.manifest import MANIFEST_NAME, Manifest, Rendition
from pipeline.dataset_tools.verify_checks import COPY, MANY, DatasetDefect

# Columns that are equal in all renditions, row for row; bytes, sizes and hashes differ.
_SHARED = (
    *("key", "split", "fold_splits", "group", "label", "labels", "shard", "num_frames", "fps", "variable_rate"),
    *("source", "source_start", "source_end"),
)


def check_rendition(
    manifest: Manifest, table: pa.Table | None, rendition: Rendition, found: Manifest, its_table: pa.Table | None
) -> list[DatasetDefect]:
    """Check a smaller rendition against the largest.

    Args:
        manifest: The manifest (dataset.json) of the largest rendition.
        table: The index of the largest rendition, or None where it cannot be read.
        rendition: The entry of the smaller rendition in `manifest`.
        found: The manifest of the smaller rendition.
        its_table: The index of the smaller rendition, or None where it cannot be read.
    """
    findings = []
    where = f"{rendition.folder}/{MANIFEST_NAME}"
    side = found.encode.get("short_side")
    if found.rendition_of != manifest.identity:
        findings.append(DatasetDefect(where, f"is not of a rendition of the dataset in {MANIFEST_NAME}", COPY))
    if side != rendition.short_side:
        findings.append(DatasetDefect(where, f"says short side {side}, {MANIFEST_NAME} {rendition.short_side}", COPY))
    for name in ("name", "classes", "folds", "task"):
        if getattr(found, name) != getattr(manifest, name):
            findings.append(DatasetDefect(where, f"has another {name} than {MANIFEST_NAME}", COPY))
    if table is not None and its_table is not None:
        findings += _compare_rows(rendition, table, its_table)
    return findings


def _compare_rows(rendition: Rendition, table: pa.Table, its_table: pa.Table) -> list[DatasetDefect]:
    where = f"{rendition.folder}/index.parquet"
    keys, its_keys = (of.column("key").to_pylist() for of in (table, its_table))
    differing = sorted(set(keys) ^ set(its_keys))
    if differing:
        named = ", ".join(differing[:MANY]) + (", ..." if len(differing) > MANY else "")
        return [DatasetDefect(where, f"{len(differing)} videos are in one of the renditions alone: {named}", COPY)]
    findings = []
    for name in [name for name in _SHARED if name in table.schema.names and name in its_table.schema.names]:
        pairs = zip(table.column(name).to_pylist(), its_table.column(name).to_pylist(), strict=True)
        rows = np.flatnonzero([one != other for one, other in pairs])
        if len(rows):
            named = ", ".join(keys[row] for row in rows[:MANY]) + (", ..." if len(rows) > MANY else "")
            findings.append(
                DatasetDefect(where, f"{name} of {len(rows)} videos is not as in index.parquet: {named}", COPY)
            )
    return findings


def in_subfolder(folder: Path, finding: DatasetDefect) -> DatasetDefect:
    """A finding of a rendition, with its place relative to the dataset's folder."""
    return finding._replace(place=f"{folder.name}/{finding.place}")
