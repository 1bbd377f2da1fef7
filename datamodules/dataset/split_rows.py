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
        self._never_read = frozenset(quarantined.tolist())
        self._found: dict[tuple[str, str | None], np.ndarray] = {}

    def of(self, split: str, fold: str | int | None) -> np.ndarray:
        """See `DatasetIndex.rows`."""
        wanted = (split, None if fold is None else str(fold))
        if wanted not in self._found:
            self._found[wanted] = self._find(*wanted)
            self._found[wanted].setflags(write=False)
        return self._found[wanted]

    def readable(self, split: str, fold: str | int | None) -> np.ndarray:
        """The rows of a split that are not quarantined."""
        rows = self.of(split, fold)
        if not len(self._quarantined):
            return rows
        left_out = np.isin(self._quarantined, rows, assume_unique=True)
        return rows[~np.isin(rows, self._quarantined)] if left_out.any() else rows

    def is_quarantined(self, row: int) -> bool:
        """Whether the video is quarantined, and therefore never read."""
        return row in self._never_read

    def _find(self, split: str, fold: str | None) -> np.ndarray:
        name, folds = self._manifest.name, self._manifest.folds
        if split == ALL_SPLITS and (folds or ALL_SPLITS not in self._manifest.splits):
            return self._mapped.rows("every row", lambda batch: pc.is_valid(batch.column("key")))
        if (fold not in folds) if folds else (fold is not None):
            there_are = (
                f"one of the folds {', '.join(folds)} (`--fold`, or data.init_args.fold in a config)"
                if folds
                else "no fold, its splits are fixed"
            )
            raise ValueError(f"fold={fold}: {name} wants {there_are}")

        def splits(rows: pa.Table | pa.RecordBatch) -> Any:
            if fold is None:
                return rows.column("split")
            return pc.list_element(rows.column("fold_splits"), folds.index(fold))

        found = self._mapped.rows(json.dumps([split, fold]), lambda batch: pc.equal(splits(batch), split))
        if not len(found):
            names = ", ".join(sorted(pc.unique(splits(self._mapped.table)).to_pylist()))
            raise ValueError(f"split={split!r}: {name} has no video in it, only in {names}")
        return found
