"""Rows of splits: the rows of an index that belong to a split of a fold, with and without quarantined ones."""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.dataset.manifest import Manifest
from datamodules.dataset.mapped_index import MappedIndex

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
                else "no fold, its splits are fixed"
            )
            raise ValueError(f"fold={fold}: {name} wants {expected}")

        def splits(rows: pa.Table | pa.RecordBatch) -> Any:
            if fold is None:
                return rows.column("split")
            return pc.list_element(rows.column("fold_splits"), folds.index(fold))

        matching_rows = self._mapped.rows(json.dumps([split, fold]), lambda batch: pc.equal(splits(batch), split))
        if not len(matching_rows):
            names = ", ".join(sorted(pc.unique(splits(self._mapped.table)).to_pylist()))
            raise ValueError(f"split={split!r}: {name} has no video in it, only in {names}")
        return matching_rows
