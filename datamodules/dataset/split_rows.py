"""Rows of splits: the rows of an index that belong to a split of a fold, with and without quarantined ones.

The splits are those of the index, or of a split file (`apply_split_file`).
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.dataset.index_table import LABELS, NO_LABEL, SPLIT_GROUP, TIMELINE, labels_by_row
from datamodules.dataset.manifest import Manifest, SplitCounts
from datamodules.dataset.mapped_index import MappedIndex
from datamodules.splits.split_file import SplitFile, SplitFileError

ALL_SPLITS = "all"


class SplitRows:
    """Finds the rows of splits, and caches them.

    Args:
        manifest: The dataset's manifest.
        mapped: The memory-mapped index.
        quarantined: Rows of the videos in quarantine.csv, int64, ascending.
    """

    def __init__(self, manifest: Manifest, mapped: MappedIndex, quarantined: np.ndarray) -> None:
        self._manifest = manifest
        self._mapped = mapped
        self._quarantined = quarantined
        self._quarantined_set = frozenset(quarantined.tolist())
        self._cache: dict[tuple[str, str | None], np.ndarray] = {}

    def rows(self, split: str, fold: str | int | None) -> np.ndarray:
        """See `DatasetIndex.rows`."""
        key = (split, None if fold is None else str(fold))
        if key not in self._cache:
            self._cache[key] = self._find(*key)
            self._cache[key].setflags(write=False)
        return self._cache[key]

    def readable(self, split: str, fold: str | int | None) -> np.ndarray:
        """The rows of a split that are not quarantined."""
        rows = self.rows(split, fold)
        if not len(self._quarantined):
            return rows
        quarantined = np.isin(self._quarantined, rows, assume_unique=True)
        return rows[~np.isin(rows, self._quarantined)] if quarantined.any() else rows

    def is_quarantined(self, row: int) -> bool:
        """Whether the video is quarantined, and therefore never read."""
        return row in self._quarantined_set

    def _find(self, split: str, fold: str | None) -> np.ndarray:
        name, folds = self._manifest.name, self._manifest.folds
        if split == ALL_SPLITS and (folds or ALL_SPLITS not in self._manifest.splits):
            return self._mapped.rows("every row", lambda batch: pc.is_valid(batch.column("key")))
        if (fold not in folds) if folds else (fold is not None):
            expected = (
                f"one of the folds {', '.join(folds)} (`--fold`, or data.init_args.fold in a config)"
                if folds
                else "no fold, its splits are fixed (in a config: data.init_args.fold null)"
            )
            raise ValueError(f"fold={fold}: {name} wants {expected}")

        def splits(rows: pa.Table | pa.RecordBatch) -> Any:
            if fold is None:
                return rows.column("split")
            return pc.list_element(rows.column("fold_splits"), folds.index(fold))

        matching_rows = self._mapped.rows(json.dumps([split, fold]), lambda batch: pc.equal(splits(batch), split))
        if not len(matching_rows):
            names = ", ".join(sorted(filter(None, pc.unique(splits(self._mapped.table)).to_pylist())))
            option = f", or data.init_args.{split}_split in a config" if split in ("train", "test") else ""
            hint = f"name one of these (--split{option})"
            hint = "to train without validation: data.init_args.val_split null" if split == "val" else hint
            raise ValueError(f"split={split!r}: {name} has no video in it, only in {names}; {hint}")
        return matching_rows


def apply_split_file(manifest: Manifest, mapped: MappedIndex, chosen: SplitFile) -> tuple[Manifest, MappedIndex]:
    """The manifest and index of a dataset with the splits of a split file; the identity stays that of the dataset.

    Raises:
        SplitFileError: A video of the dataset is not in the file, or the other way round.
    """
    divided = mapped.with_splits(chosen.reference, lambda table: assign_splits(table, chosen, manifest.name))
    return with_split_counts(manifest, divided.table, chosen.folds), divided


def assign_splits(table: pa.Table, chosen: SplitFile, dataset: str) -> pa.Table:
    """The table of an index with `split` and `fold_splits` of a split file, and its groups, if any, as `split_group`.

    Args:
        table: Table with the columns key, split and fold_splits.
        chosen: The split file.
        dataset: Name of the dataset, for errors.

    Raises:
        SplitFileError: A video of the dataset is not in the file, or the other way round.
    """
    keys = pa.array(chosen.values.keys(), pa.string())
    places = pc.index_in(table.column("key"), value_set=keys)
    missing = table.column("key").filter(pc.is_null(places))
    if len(missing):
        raise SplitFileError(
            f"split_file={chosen.name}: {len(missing)} of the {table.num_rows} videos of {dataset} are not in "
            f"{chosen.path}, first {missing[0].as_py()}; add their lines, with an empty split to leave a video out"
        )
    unknown = keys.filter(pc.invert(pc.is_in(keys, value_set=table.column("key").combine_chunks())))
    if len(unknown):
        raise SplitFileError(
            f"split_file={chosen.name}: {len(unknown)} keys of {chosen.path} are not in {dataset}, first "
            f"{unknown[0].as_py()}; remove their lines, or name the dataset that the file was made for"
        )
    example = {value: key for key, value in chosen.values.items()}
    numbers = {value: number for number, value in enumerate(example)}
    splits, fold_splits = zip(*(chosen.splits_of(key) for key in example.values()), strict=True)
    number_of_row = pc.take(pa.array([numbers[value] for value in chosen.values.values()], pa.int32()), places)
    for name, values in (("split", splits), ("fold_splits", fold_splits)):
        column = pa.array(list(values), table.schema.field(name).type)
        chunks = [column.take(chunk) for chunk in number_of_row.chunks]
        table = table.set_column(table.schema.get_field_index(name), name, pa.chunked_array(chunks, column.type))
    if chosen.groups is not None:
        groups = pa.array([chosen.groups[key] for key in chosen.values], SPLIT_GROUP.type)
        chunks = [groups.take(chunk) for chunk in places.chunks]
        table = table.append_column(SPLIT_GROUP, pa.chunked_array(chunks, groups.type))
    return table


def with_split_counts(manifest: Manifest, table: pa.Table, folds: Sequence[str]) -> Manifest:
    """The manifest with the folds and counts of a table's splits; videos without a split are not counted."""
    counter = _ClassCounter(table, manifest.classes)
    columns = {fold: pc.list_element(table.column("fold_splits"), number) for number, fold in enumerate(folds)}
    return replace(
        manifest,
        folds=list(folds),
        splits=counter.counts(table.column("split")),
        fold_counts={fold: counter.counts(column) for fold, column in columns.items()},
    )


class _ClassCounter:
    """Counts the videos of each class in each split of a table."""

    def __init__(self, table: pa.Table, classes: Sequence[str]) -> None:
        self._classes = classes
        if TIMELINE.name in table.schema.names:
            by_row = labels_by_row(table)
            self._rows = np.repeat(np.arange(len(by_row)), [len(labels) for labels in by_row])
            self._labels = np.array([label for labels in by_row for label in labels], np.int64)
        elif LABELS.name in table.schema.names:
            labels = table.column(LABELS.name).combine_chunks()
            self._rows = pc.list_parent_indices(labels).to_numpy()
            self._labels = pc.list_flatten(labels).to_numpy()
        else:
            labels = table.column("label").to_numpy()
            self._rows = np.flatnonzero(labels != NO_LABEL)
            self._labels = labels[self._rows]

    def counts(self, splits: pa.ChunkedArray) -> dict[str, SplitCounts]:
        """The counts by split, alphabetical; a split "" is left out."""
        encoded = splits.combine_chunks().dictionary_encode()
        names, numbers = encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)
        width = len(self._classes)
        totals = np.bincount(numbers, minlength=len(names))
        by_class = np.bincount(numbers[self._rows] * width + self._labels, minlength=len(names) * width)
        return {
            name: SplitCounts(int(totals[number]), dict(zip(self._classes, of_classes, strict=True)))
            for name, number in sorted((name, number) for number, name in enumerate(names) if name)
            for of_classes in (by_class[number * width : (number + 1) * width].tolist(),)
        }
