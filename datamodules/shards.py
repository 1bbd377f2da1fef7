"""A packed dataset: a folder of tars, index.parquet with one row a video, dataset.json.

`DatasetIndex` reads single videos by byte range; nothing ever scans a tar. A shard itself is written and recovered by
`datamodules.tars`, the index by `datamodules.index_table`, dataset.json by `datamodules.manifest`; all their names are
here too.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.index_table import INDEX_SCHEMA, dataset_identity, read_index_table, write_dataset
from datamodules.manifest import Manifest, ShardFile, ShardFormatError, read_manifest
from datamodules.open_shards import OpenShards
from datamodules.tars import ShardRow, ShardWriter, VideoDescription, index_shard, open_shard_writer

__all__ = [
    "DatasetIndex",
    "Manifest",
    "ShardFile",
    "ShardFormatError",
    "ShardRow",
    "ShardWriter",
    "VideoDescription",
    "VideoEntry",
    "dataset_identity",
    "index_shard",
    "open_shard_writer",
    "read_manifest",
    "write_dataset",
]

ALL_SPLITS = "all"


class VideoEntry(NamedTuple):
    """A row of the index: `label` is the position in `DatasetIndex.classes`, the rest as in `VideoDescription`.

    Its frame hashes, which training has no use for, are in `DatasetIndex.column`.
    """

    key: str
    split: str
    fold_splits: tuple[str, ...]
    group: str
    label: int
    shard: str
    video_offset: int
    video_size: int
    num_frames: int
    fps: float
    width: int
    height: int
    duration_s: float
    content_sha256: str
    source: str


class DatasetIndex:
    """What is in a packed dataset and where, with the bytes of any video by row number.

    Rows are numbered from 0 in the order of index.parquet: by shard, then by position in the shard. An index may be
    pickled and may be used after a fork: the other process opens its own files. Reading is safe from many threads.
    """

    def __init__(self, root: Path, manifest: Manifest, table: pa.Table, max_open_files: int = 64):
        self.root = root
        self.manifest = manifest
        self.name = manifest.name
        self.classes = manifest.classes
        self.folds = manifest.folds
        self.identity = manifest.identity
        self._table = table
        self._files = OpenShards(root, {shard.name: shard.bytes for shard in manifest.shards}, max_open_files)
        self._rows: dict[tuple[str, str | None], np.ndarray] = {}

    @classmethod
    def open(cls, root: str | Path, max_open_files: int = 64) -> Self:
        """Open the dataset in a folder; quick, because no shard is read.

        Args:
            root: The folder with dataset.json, index.parquet and the tars.
            max_open_files: How many shards this process keeps open.

        Raises:
            ShardFormatError: Folder, dataset.json, index.parquet or a shard is missing, damaged, or they do not belong
                together.
        """
        root = Path(root)
        manifest = read_manifest(root)
        table = read_index_table(root, manifest)
        present = {path.name for path in root.iterdir()}
        missing = [shard.name for shard in manifest.shards if shard.name not in present]
        if missing:
            raise ShardFormatError(
                f"{root}: {len(missing)} of {len(manifest.shards)} shards are missing, first {missing[0]}; copy them "
                "here or run pack again"
            )
        return cls(root, manifest, table, max_open_files)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (type(self), self.root.absolute(), self._files.max_open, self.identity)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def rows(self, split: str, fold: str | int | None = None) -> np.ndarray:
        """Row numbers of a split, int64, ascending, read-only.

        Args:
            split: Name of a split; `all` gives every row, whatever the fold, unless a split has that name.
            fold: Name of the fold for datasets with folds, else None.

        Raises:
            ValueError: There is no such split or fold; the message lists those there are.
        """
        wanted = (split, None if fold is None else str(fold))
        if wanted not in self._rows:
            self._rows[wanted] = self._find_rows(*wanted)
            self._rows[wanted].setflags(write=False)
        return self._rows[wanted]

    def _find_rows(self, split: str, fold: str | None) -> np.ndarray:
        if split == ALL_SPLITS and (self.folds or ALL_SPLITS not in self.manifest.splits):
            return np.arange(len(self), dtype=np.int64)
        if (fold not in self.folds) if self.folds else (fold is not None):
            there_are = f"one of the folds {', '.join(self.folds)}" if self.folds else "no fold, its splits are fixed"
            raise ValueError(f"fold={fold}: {self.name} wants {there_are}")
        if fold is None:
            splits = self._table.column("split")
        else:
            splits = pc.list_element(self._table.column("fold_splits"), self.folds.index(fold))
        found = np.flatnonzero(pc.equal(splits, split).to_numpy())
        if not len(found):
            names = ", ".join(sorted(pc.unique(splits).to_pylist()))
            raise ValueError(f"split={split!r}: {self.name} has no video in it, only in {names}")
        return found.astype(np.int64)

    def column(self, name: str, rows: np.ndarray | Sequence[int]) -> np.ndarray | list[Any]:
        """The values of an index column for some rows: numpy for numbers, a list for strings and lists of strings."""
        if name not in INDEX_SCHEMA.names:
            raise ValueError(f"column {name!r}: the index has {', '.join(INDEX_SCHEMA.names)}")
        taken = self._table.column(name).take(pa.array(np.asarray(rows, dtype=np.int64)))
        if pa.types.is_integer(taken.type) or pa.types.is_floating(taken.type):
            numbers: np.ndarray = taken.to_numpy()
            return numbers
        values: list[Any] = taken.to_pylist()
        return values

    def shard_sizes(self, rows: np.ndarray | Sequence[int]) -> tuple[int, ...]:
        """How many of these rows, which are ascending, lie in each shard that has any, in order."""
        shards = self.column("shard", rows)
        return tuple(len(list(run)) for _, run in itertools.groupby(shards))

    def entry(self, row: int) -> VideoEntry:
        """Everything the index says about one video.

        Raises:
            IndexError: `row` is not in [0, len(self)).
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row}: {self.name} has rows 0 to {len(self) - 1}")
        columns = self._table.slice(row, 1).select(VideoEntry._fields).to_pydict()
        values = {name: column[0] for name, column in columns.items()}
        values["fold_splits"] = tuple(values["fold_splits"])
        return VideoEntry(**values)

    def read_video(self, row: int) -> bytes:
        """The stored bytes of one video.

        Raises:
            IndexError: `row` is not in [0, len(self)).
            ShardFormatError: The shard is missing, or shorter than the index says.
        """
        entry = self.entry(row)
        return self._files.read(entry.shard, entry.video_offset, entry.video_size)


def _reopen(cls: type[DatasetIndex], root: Path, max_open_files: int, identity: str) -> DatasetIndex:
    index = cls.open(root, max_open_files)
    if index.identity != identity:
        raise ShardFormatError(f"{root}: was packed anew while in use; start the run again")
    return index
