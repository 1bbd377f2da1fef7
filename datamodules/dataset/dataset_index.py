"""Index of a packed dataset: a folder of tars, index.parquet with one row per video, and dataset.json.

`DatasetIndex` reads single videos by byte range, without scanning tars. Shards are written and recovered by
`datamodules.dataset.shard_tar`, the index by `datamodules.dataset.index_table` (its values are read by
`datamodules.dataset.index_reader`, the rows of splits by `datamodules.dataset.split_rows`), dataset.json by
`datamodules.dataset.manifest`; names that other packages need are exported here too.
"""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.annotations.video_files import open_video_source
from datamodules.dataset.index_reader import IndexValues, VideoEntry
from datamodules.dataset.index_table import INDEX_NAME, NO_LABEL, dataset_identity, write_dataset
from datamodules.dataset.manifest import Manifest, ShardFile, read_manifest
from datamodules.dataset.mapped_index import MappedIndex
from datamodules.dataset.mapped_rows import MappedRows
from datamodules.dataset.open_dataset import open_folder, open_url
from datamodules.dataset.quarantine import QUARANTINE_NAME, quarantined_rows, read_quarantine, read_remote_quarantine
from datamodules.dataset.shard_tar import ShardRow, ShardWriter, VideoDescription, index_shard, open_shard_writer
from datamodules.dataset.split_rows import SplitRows, apply_split_file
from datamodules.splits.split_file import SplitReference, read_split_file
from datamodules.storage.disk_cache import ByteCache
from datamodules.storage.errors import ShardFormatError
from datamodules.storage.local_files import OpenShards, WholeFiles
from datamodules.storage.plain_text import is_utf8
from datamodules.storage.prefetch import ByteRange, ReadAhead
from datamodules.storage.remote_files import RemoteFiles, RetryPolicy, split_root
from datamodules.storage.remote_options import RemoteOptions
from datamodules.video.video_container import Source

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


class DatasetIndex:
    """The contents of a packed dataset, with the bytes of any video by row number.

    Rows are numbered from 0 in the order of index.parquet: by shard, then by position in the shard. An index may be
    pickled, and used after a fork: the other process opens its own files. Reading is thread-safe. The table is mapped
    into memory, once for all processes of a node: see `datamodules.dataset.mapped_index`. `quarantined` has the rows,
    int64, ascending, of the videos in quarantine.csv: they are included in `rows`, and never read by data loaders.
    """

    def __init__(
        self,
        root: Path | str,
        manifest: Manifest,
        mapped: MappedIndex,
        files: OpenShards | RemoteFiles | WholeFiles,
        remote: RemoteOptions,
        quarantined: np.ndarray,
    ):
        self.root = root
        self.manifest = manifest
        self.name = manifest.name
        self.classes = manifest.classes
        self.folds = manifest.folds
        self.task = manifest.task
        self.identity = manifest.identity
        self._mapped = mapped
        self._table = mapped.table
        self._files = files
        self._remote = remote
        self.quarantined = quarantined
        self.quarantine_file = f"{root}/{QUARANTINE_NAME}"
        self._split_rows = SplitRows(manifest, mapped, quarantined)
        self._values = IndexValues(manifest, mapped, files)
        self._read_ahead: ReadAhead | None = None
        if isinstance(files, RemoteFiles):
            self._read_ahead = ReadAhead(files.read_byte_range, remote.remote_reads, remote.remote_read_bytes)

    @classmethod
    def open(
        cls,
        root: str | Path,
        max_open_files: int = 64,
        retry_policy: RetryPolicy = RetryPolicy(),  # noqa: B008 # immutable
        remote: RemoteOptions = RemoteOptions(),  # noqa: B008 # immutable
        quarantine_root: str | Path | None = None,
        split_file: str | None = None,
    ) -> Self:
        """Opens the dataset in a folder or at a URL; fast, because no shard is read.

        Args:
            root: Folder or URL of dataset.json, index.parquet and the tars.
            max_open_files: How many shards of a folder this process keeps open.
            retry_policy: How long reads from a URL are tried.
            remote: How many of them are under way at a time (see `expect`), and where their videos are kept.
            quarantine_root: Folder or URL whose quarantine.csv and split files count; default: `root`.
            split_file: Name, path or URL of the split file whose splits take the place of those in the index; None: the
                splits in the index.

        Raises:
            SplitFileError: There is no such split file, it is invalid, or it does not fit the dataset.
            ShardFormatError: Folder, dataset.json, index.parquet or a shard is missing, damaged, or they do not belong
                together; of a URL, shards are looked for when they are read.
        """
        root = split_root(root)
        chosen = None if split_file is None else read_split_file(split_file, quarantine_root or root)
        manifest: Manifest
        files: OpenShards | RemoteFiles
        if isinstance(root, Path):
            manifest, mapped, files = open_folder(root, max_open_files)
            refused = read_quarantine(Path(quarantine_root or root))
        else:
            cache = None if remote.cache_folder is None else ByteCache(remote.cache_folder, remote.cache_bytes)
            manifest, mapped, files = open_url(RemoteFiles(root, retry_policy, cache))
            list_files = files if quarantine_root is None else RemoteFiles(str(quarantine_root), retry_policy, None)
            refused = read_remote_quarantine(list_files)
        quarantined = quarantined_rows(mapped, refused)
        if chosen is not None:
            manifest, mapped = apply_split_file(manifest, mapped, chosen)
        return cls(root, manifest, mapped, files, remote, quarantined)

    @property
    def split_file(self) -> SplitReference | None:
        """Name and digest of the split file that the splits are from; None: those of the index."""
        return self._mapped.split_file

    def __reduce__(self) -> tuple[Any, ...]:
        if isinstance(self._files, OpenShards):
            # With the quarantine as read here, so that all processes of a run leave out the same videos.
            return _reopen, (
                type(self),
                self._files.root.absolute(),
                self._files.max_open,
                self.identity,
                self.quarantined,
                None if self.split_file is None else (self.manifest, self._mapped),
            )
        # A starting worker does not contact the server: every read is verified against the digest in the index anyway.
        return type(self), (self.root, self.manifest, self._mapped, self._files, self._remote, self.quarantined)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def rows(self, split: str, fold: str | int | None = None) -> np.ndarray:
        """Row numbers of a split, int64, ascending, read-only.

        Args:
            split: Name of a split; `all` selects every row of any fold, unless a split has that name.
            fold: Name of the fold for datasets with folds, otherwise None.

        Raises:
            ValueError: There is no such split or fold; the message lists the known ones.
        """
        return self._split_rows.rows(split, fold)

    def readable_rows(self, split: str, fold: str | int | None = None) -> np.ndarray:
        """The rows of a split that are not quarantined."""
        return self._split_rows.readable(split, fold)

    def is_quarantined(self, row: int) -> bool:
        """Whether the video is quarantined, and therefore never read."""
        return self._split_rows.is_quarantined(row)

    def rows_of(self, keys: Collection[str]) -> np.ndarray:
        """Rows of the videos with these keys, int64, ascending; unknown keys are ignored."""
        value_set = pa.array(sorted(filter(is_utf8, keys)), pa.string())  # keys in an index are UTF-8
        return np.flatnonzero(pc.is_in(self._table.column("key"), value_set=value_set).to_numpy())

    def column(self, name: str, rows: np.ndarray | Sequence[int]) -> np.ndarray | list[Any]:
        """Values of a column, or of `split_group` (see `IndexValues.column`), for some rows: an array or a list."""
        return self._values.column(name, rows)

    @property
    def has_segments(self) -> bool:
        """Whether any video is a segment of its source; `VideoEntry.source_start` and `source_end` then say which."""
        return self._values.has_segments

    @property
    def has_captions(self) -> bool:
        """Whether any video has a caption."""
        return self._values.has_captions

    def captions(self, row: int) -> list[str]:
        """The captions of a video, else its class names; may be empty."""
        return self._values.captions(row) or [self.classes[label] for label in self.labels(row)]

    @property
    def has_timelines(self) -> bool:
        """Whether labels have times within the videos, which `timeline` gives."""
        return self._values.has_timelines

    def timeline(self, row: int) -> tuple[tuple[int, float, float], ...]:
        """Class index, start and end in seconds of each labelled part of a video, in a dataset of labels by time."""
        return self._values.timeline(row)

    def labels(self, row: int) -> tuple[int, ...]:
        """Class indices of a video, ascending: one, none or several."""
        entry = self.entry(row)
        if self.has_timelines:
            return tuple(sorted({label for label, _, _ in self.timeline(row)}))
        return entry.labels or (() if entry.label == NO_LABEL else (entry.label,))

    def flat_labels(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The class indices of some videos, concatenated.

        Returns:
            All class indices, int64 (L,), and how many of them each video has, int64 (M,), which add up to L.
        """
        return self._values.flat_labels(rows)

    def frame_hashes(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The frame hashes of some videos, concatenated; `column` returns them as lists.

        Returns:
            All hashes, uint64 (F,), and the start of each video's, followed by F, int64 (M + 1,).
        """
        return self._values.frame_hashes(rows)

    def shard_sizes(self, rows: np.ndarray | Sequence[int]) -> tuple[int, ...]:
        """Number of these rows, which are ascending, in each shard that has any, in order."""
        ends = np.cumsum([shard.videos for shard in self.manifest.shards], dtype=np.int64)
        if int(ends[-1] if len(ends) else 0) != len(self):
            raise ShardFormatError(f"{self.root}: {INDEX_NAME} has {len(self)} rows, dataset.json says otherwise")
        if len(rows) and rows[-1] - rows[0] == len(rows) - 1:  # contiguous rows, as in splits without folds
            positions = np.clip(ends - rows[0], 0, len(rows))
        else:
            positions = np.searchsorted(rows, ends)
        sizes = np.diff(positions, prepend=0)
        if isinstance(rows, MappedRows):
            rows.release()
        return tuple(sizes[sizes > 0].tolist())

    def entry(self, row: int) -> VideoEntry:
        """The row of the index for one video.

        Raises:
            IndexError: `row` is not in [0, len(self)).
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row}: {self.name} has rows 0 to {len(self) - 1}")
        return self._values.entry(row)

    @property
    def has_flow(self) -> bool:
        """Whether any video has optical flow, which `VideoEntry.flow_size` says of each."""
        return self._values.has_flow

    def expect(self, rows: Sequence[int], video: bool = True, flow: bool = False) -> None:
        """Announces the rows of the next `read_video` and `read_flow` calls, which threads prefetch from a URL.

        Rows announced earlier that are not among these are dropped.
        """
        if self._read_ahead is not None:
            self._read_ahead.expect(self._values.byte_ranges(rows, video, flow))

    def read_video(self, row: int) -> bytes:
        """The stored bytes of one video file; raises ShardFormatError if its shard is missing or too short."""
        return self._read(self.entry(row).video_range(row))

    def read_flow(self, row: int) -> bytes:
        """The stored bytes of the optical flow of a video that has one; errors as `read_video`."""
        return self._read(self.entry(row).flow_range(row))

    def _read(self, byte_range: ByteRange) -> bytes:
        if self._read_ahead is not None:
            return self._read_ahead.take(byte_range)
        return self._files.read(byte_range.shard, byte_range.offset, byte_range.size)  # type: ignore[call-arg]

    def video_source(self, row: int) -> Source:
        """The input of a decoder: the stored bytes; the path of a video file that is in no shard, and large.

        Raises:
            DecodeError: A video file that is in no shard is missing, cannot be read, or was changed.
            IndexError: `row` is not in [0, len(self)).
            ShardFormatError: The shard is missing, or shorter than the index says.
        """
        if not isinstance(self._files, WholeFiles):
            return self.read_video(row)
        entry = self.entry(row)
        return open_video_source(self._files.path(entry.shard), entry.video_size)

    @property
    def has_shards(self) -> bool:
        """Whether the videos are in shards; false if they are files of their own."""
        return not isinstance(self._files, WholeFiles)


def _reopen(
    cls: type[DatasetIndex],
    root: Path,
    max_open_files: int,
    identity: str,
    quarantined: np.ndarray,
    divided: tuple[Manifest, MappedIndex] | None,
) -> DatasetIndex:
    manifest, mapped, files = open_folder(root, max_open_files)
    if manifest.identity != identity:
        raise ShardFormatError(f"{root}: was packed anew while in use; start the run again")
    return cls(root, *(divided or (manifest, mapped)), files, RemoteOptions(), quarantined)
