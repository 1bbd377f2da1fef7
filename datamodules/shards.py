"""A packed dataset: a folder of tars, index.parquet with one row a video, dataset.json.

`DatasetIndex` reads single videos by byte range; nothing ever scans a tar. A shard itself is written and recovered by
`datamodules.tars`, the index by `datamodules.index_table`, dataset.json by `datamodules.manifest`; all their names are
here too.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.byte_cache import ByteCache
from datamodules.index_table import INDEX_NAME, INDEX_SCHEMA, dataset_identity, write_dataset
from datamodules.manifest import MANIFEST_NAME, Manifest, ShardFile, ShardFormatError, parse_manifest, read_manifest
from datamodules.mapped_index import MappedIndex, map_index, parquet_footer
from datamodules.open_shards import OpenShards
from datamodules.remote_shards import Patience, RemoteShards, split_root
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
    "open_manifest",
    "open_shard_writer",
    "read_manifest",
    "write_dataset",
]

ALL_SPLITS = "all"
CACHE_BYTES = 50 * 2**30


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
    pickled and may be used after a fork: the other process opens its own files. Reading is safe from many threads. The
    table is mapped into memory, once for all processes of a node: see `datamodules.mapped_index`.
    """

    def __init__(
        self,
        root: Path | str,
        manifest: Manifest,
        mapped: MappedIndex,
        files: OpenShards | RemoteShards,
        options: dict[str, Any],
    ):
        self.root = root
        self.manifest = manifest
        self.name = manifest.name
        self.classes = manifest.classes
        self.folds = manifest.folds
        self.identity = manifest.identity
        self._mapped = mapped
        self._table = mapped.table
        self._files = files
        self._options = options
        self._rows: dict[tuple[str, str | None], np.ndarray] = {}

    @classmethod
    def open(
        cls,
        root: str | Path,
        max_open_files: int = 64,
        cache_dir: str | Path | None = None,
        cache_bytes: int = CACHE_BYTES,
        patience: Patience = Patience(),  # noqa: B008 # immutable
    ) -> Self:
        """Open the dataset in a folder or at a URL; quick, because no shard is read.

        Args:
            root: The folder with dataset.json, index.parquet and the tars, or its URL (see `remote_shards`).
            max_open_files: How many shards of a folder this process keeps open.
            cache_dir: Where videos read from a URL are kept; None keeps none.
            cache_bytes: Bound on that folder.
            patience: How long reads from a URL are tried.

        Raises:
            ShardFormatError: Folder, dataset.json, index.parquet or a shard is missing, damaged, or they do not belong
                together; of a URL, shards are looked for when they are read.
        """
        root = split_root(root)
        options: dict[str, Any] = {
            "max_open_files": max_open_files,
            "cache_dir": cache_dir,
            "cache_bytes": cache_bytes,
            "patience": patience,
        }
        if isinstance(root, Path):
            return cls(root, *_open_local(root, max_open_files), options)
        cache = ByteCache(Path(cache_dir).expanduser().absolute(), cache_bytes) if cache_dir is not None else None
        return cls(root, *_open_remote(RemoteShards(root, patience, cache)), options)

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self.root, Path):
            return _reopen, (type(self), self.root.absolute(), self._options, self.identity)
        # A worker that starts asks the server nothing: every read is held against the digest in the index anyway.
        return type(self), (self.root, self.manifest, self._mapped, self._files, self._options)

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
            return self._mapped.rows("every row", lambda batch: pc.is_valid(batch.column("key")))
        if (fold not in self.folds) if self.folds else (fold is not None):
            there_are = f"one of the folds {', '.join(self.folds)}" if self.folds else "no fold, its splits are fixed"
            raise ValueError(f"fold={fold}: {self.name} wants {there_are}")

        def splits(rows: pa.Table | pa.RecordBatch) -> Any:
            if fold is None:
                return rows.column("split")
            return pc.list_element(rows.column("fold_splits"), self.folds.index(fold))

        found = self._mapped.rows(json.dumps([split, fold]), lambda batch: pc.equal(splits(batch), split))
        if not len(found):
            names = ", ".join(sorted(pc.unique(splits(self._table)).to_pylist()))
            raise ValueError(f"split={split!r}: {self.name} has no video in it, only in {names}")
        return found

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
        ends = np.cumsum([shard.videos for shard in self.manifest.shards], dtype=np.int64)
        if int(ends[-1] if len(ends) else 0) != len(self):
            raise ShardFormatError(f"{self.root}: {INDEX_NAME} has {len(self)} rows, dataset.json says otherwise")
        sizes = np.diff(np.searchsorted(rows, ends), prepend=0)
        return tuple(sizes[sizes > 0].tolist())

    def entry(self, row: int) -> VideoEntry:
        """Everything the index says about one video.

        Raises:
            IndexError: `row` is not in [0, len(self)).
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row}: {self.name} has rows 0 to {len(self) - 1}")
        values = self._mapped.row(row, VideoEntry._fields)
        values["fold_splits"] = tuple(values["fold_splits"])
        return VideoEntry(**values)

    def read_video(self, row: int) -> bytes:
        """The stored bytes of one video.

        Raises:
            IndexError: `row` is not in [0, len(self)).
            ShardFormatError: The shard is missing, or shorter than the index says.
        """
        entry = self.entry(row)
        if isinstance(self._files, RemoteShards):
            return self._files.read(entry.shard, entry.video_offset, entry.video_size, entry.content_sha256)
        return self._files.read(entry.shard, entry.video_offset, entry.video_size)


def _open_local(root: Path, max_open_files: int) -> tuple[Manifest, MappedIndex, OpenShards]:
    manifest = read_manifest(root)
    path = root / INDEX_NAME
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            footer = parquet_footer(str(path), size, lambda offset, length: (file.seek(offset), file.read(length))[1])
    except FileNotFoundError:
        raise ShardFormatError(f"{root}: no {INDEX_NAME} beside {MANIFEST_NAME}; run pack again") from None
    except OSError as error:
        raise ShardFormatError(f"{path}: cannot be read ({error.strerror}); check the disk") from None
    mapped = map_index(manifest, footer, lambda _: path, root, str(path))
    present = set(os.listdir(root))  # noqa: PTH208 # names alone: a Path for each of 10,000 shards takes megabytes
    missing = [shard.name for shard in manifest.shards if shard.name not in present]
    if missing:
        raise ShardFormatError(
            f"{root}: {len(missing)} of {len(manifest.shards)} shards are missing, first {missing[0]}; copy them "
            "here or run pack again"
        )
    return manifest, mapped, OpenShards(root, {shard.name: shard.bytes for shard in manifest.shards}, max_open_files)


def _open_remote(files: RemoteShards) -> tuple[Manifest, MappedIndex, RemoteShards]:
    manifest = _remote_manifest(files)
    where = f"{files.root}/{INDEX_NAME}"
    footer = parquet_footer(where, files.size(INDEX_NAME), lambda *place: files.read_range(INDEX_NAME, *place))
    return manifest, map_index(manifest, footer, lambda to: files.fetch(INDEX_NAME, to), None, where), files


def _remote_manifest(files: RemoteShards) -> Manifest:
    where = f"{files.root}/{MANIFEST_NAME}"
    try:
        content = json.loads(files.read_file(MANIFEST_NAME))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ShardFormatError(f"{where}: cannot be read as JSON ({error}); copy the dataset again") from None
    return parse_manifest(content, where)


def open_manifest(root: str | Path, patience: Patience = Patience()) -> Manifest:  # noqa: B008 # immutable
    """Read the dataset.json of a folder or URL, and nothing else.

    Raises:
        ShardFormatError: There is none, or it is damaged.
    """
    root = split_root(root)
    return read_manifest(root) if isinstance(root, Path) else _remote_manifest(RemoteShards(root, patience, None))


def _reopen(cls: type[DatasetIndex], root: Path | str, options: dict[str, Any], identity: str) -> DatasetIndex:
    index = cls.open(root, **options)
    if index.identity != identity:
        raise ShardFormatError(f"{root}: was packed anew while in use; start the run again")
    return index
