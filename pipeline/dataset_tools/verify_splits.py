"""Checks of `verify` on the split files of a dataset, in its folder splits."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from datamodules.dataset.manifest import Manifest
from datamodules.dataset.split_rows import assign_splits
from datamodules.splits.split_file import PACKED, SPLITS_FOLDER, SplitFileError, read_packed_splits, read_split_file
from pipeline.dataset_tools.verify_checks import MAX_NAMED, DatasetDefect, reindex_fix
from pipeline.packing.division import packed_splits_path


def check_split_files(root: Path, manifest: Manifest, table: pa.Table) -> list[DatasetDefect]:
    """Checks that each split file has every video once, and that the index has the splits of packed.csv."""
    findings = []
    for path in sorted((root / SPLITS_FOLDER).glob("*.csv")):
        name = f"{SPLITS_FOLDER}/{path.name}"
        try:
            chosen = read_packed_splits(root) if path.stem == PACKED else read_split_file(str(path), root)
            assert chosen is not None, "it is there, and not the index's own"
            divided = assign_splits(table, chosen, manifest.name)
        except SplitFileError as error:
            problem = str(error).removeprefix(f"{path}").removeprefix(f"split_file={path}: ").lstrip(":, ")
            findings.append(DatasetDefect(name, problem.rpartition("; ")[0], problem.rpartition("; ")[2]))
            continue
        if path.stem == PACKED:
            findings += _differing_splits(root, name, table, divided)
    return findings


def _differing_splits(root: Path, name: str, table: pa.Table, divided: pa.Table) -> list[DatasetDefect]:
    names = ["split", "fold_splits"]
    indexed, packed = (of.select(names).to_pylist() for of in (table, divided))
    rows = [row for row, (here, there) in enumerate(zip(indexed, packed, strict=True)) if here != there]
    if not rows:
        return []
    keys = table.column("key").take(pa.array(rows[:MAX_NAMED])).to_pylist() + (["..."] if len(rows) > MAX_NAMED else [])
    problem = f"{len(rows)} videos have another split in index.parquet: {', '.join(keys)}"
    return [DatasetDefect(name, problem, reindex_fix(root))]


def with_tar_splits(root: Path, table: pa.Table) -> pa.Table:
    """The index with the splits in the tars: `all` in a dataset that was divided when packed, also in a rendition."""
    if not any(packed_splits_path(folder).exists() for folder in (root, root.parent)):
        return table
    empty = pa.array([[]] * table.num_rows, table.schema.field("fold_splits").type)
    everywhere = pc.if_else(pc.is_valid(table.column("key")), "all", "")
    table = table.set_column(table.schema.get_field_index("split"), "split", everywhere)
    return table.set_column(table.schema.get_field_index("fold_splits"), "fold_splits", empty)
