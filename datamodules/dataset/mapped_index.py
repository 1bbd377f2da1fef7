"""Memory-mapped index: an uncompressed Arrow copy of index.parquet, whose pages all processes of a node share.

The first process that opens a dataset creates the copy, under a lock, beside index.parquet; if that folder is read-only
or remote, in the user's cache folder ($XDG_CACHE_HOME, or ~/.cache). The rows of every requested split are stored
beside it as plain int64. Opening either decodes nothing and reads only the pages that are used. These are released
again, so that a process that has looked up a million rows has no more of them mapped than a new one. Frame hashes,
which are larger than all other columns and not used in training, stay in index.parquet.

    .mapped-{key}/index.arrow         the table, in batches of `BATCH_ROWS`
    .mapped-{key}/rows-{name}.int64   the row numbers of one split
    .mapped-{key}/splits-{name}.arrow the columns `split` and `fold_splits` of one split file, and `split_group`, if any
    .mapped-{key}/lock                held by the process that creates one of them

The key is a digest of identity, classes and shards in dataset.json, and of the footer of index.parquet: a dataset that
is packed again gets another copy.
"""

import hashlib
import json
import logging
import mmap
import os
import shutil
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.dataset.index_table import INDEX_NAME, SPLIT_GROUP, check_index_schema
from datamodules.dataset.manifest import Manifest
from datamodules.dataset.mapped_rows import map_rows, release_pages
from datamodules.splits.split_file import SplitReference
from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.errors import ShardFormatError
from datamodules.storage.file_lock import file_lock
from datamodules.storage.user_folders import user_cache_folder

BATCH_ROWS = 2**18
MAPPED_PREFIX = ".mapped-"
_LAYOUT_VERSION = 2  # version of the copy's layout; a new number replaces all copies
_TABLE_NAME = "index.arrow"
_EXCLUDED_COLUMN = "frame_hashes"
_SPLIT_COLUMNS = ["split", "fold_splits"]
_MAX_UNUSED_S = 30 * 24 * 3600  # copies in the cache folder that were not opened for this long are removed

_log = logging.getLogger(__name__)


class MappedIndex:
    """The table of an index and the rows of its splits.

    Args:
        table: Table of `INDEX_SCHEMA` without frame hashes.
        folder: Folder for the rows of splits; None keeps them in this process.
        mapping: Memory mapping of the table's file; None if the table is in this process.
        split_file: The split file that the columns `split` and `fold_splits` are from; None: as packed.
    """

    def __init__(
        self,
        table: pa.Table,
        folder: Path | None,
        mapping: mmap.mmap | None = None,
        split_file: SplitReference | None = None,
    ):
        self.table = table
        self.folder = folder
        self.split_file = split_file
        self._mapping = mapping
        self._batches = table.to_batches()
        self._columns = [dict(zip(table.schema.names, batch.columns, strict=True)) for batch in self._batches]
        self._starts = [0, *np.cumsum([len(batch) for batch in self._batches]).tolist()]

    def __reduce__(self) -> Any:
        """Pickles the folder's name if there is one, so that other processes of the node map the same pages."""
        if self.folder is not None:
            return _open_copy, (self.folder, self.split_file)
        return MappedIndex, (self.table, None, None, self.split_file)

    def with_splits(self, split_file: SplitReference, assign: Callable[[pa.Table], pa.Table]) -> "MappedIndex":
        """This index with the splits of a split file, which are stored beside the table for all processes.

        Args:
            split_file: Name and digest of the split file.
            assign: Maps the table to one with the file's `split` and `fold_splits`; called only if they are not stored.
        """
        if self.folder is not None:
            path = self.folder / _splits_name(split_file)
            with suppress(OSError):
                if not path.exists():
                    with _lock_folder(self.folder):
                        _write_splits(path, assign(self.table))
                return _open_copy(self.folder, split_file)
        return MappedIndex(assign(self.table), None, None, split_file)

    def row(self, row: int, names: Sequence[str]) -> dict[str, Any]:
        """The named columns of one row in [0, num_rows)."""
        number = bisect_right(self._starts, row) - 1
        place = row - self._starts[number]
        values = {name: self._columns[number][name][place].as_py() for name in names}
        self.release()
        return values

    def release(self) -> None:
        """Unmaps the pages of the table: they stay in the page cache, and are mapped again on access."""
        if self._mapping is not None:
            release_pages(self._mapping)

    def rows(self, name: str, matches: Callable[[pa.RecordBatch], Any]) -> np.ndarray:
        """Numbers of the rows that match, int64, ascending, read-only.

        Args:
            name: Name under which the rows are stored.
            matches: Maps a batch of rows to an Arrow boolean array; called only if the rows are not stored yet.
        """
        if self.folder is not None:
            stored = name if self.split_file is None else f"{self.split_file.sha256} {name}"
            path = self.folder / f"rows-{hashlib.sha256(stored.encode()).hexdigest()[:16]}.int64"
            with suppress(OSError):
                if not path.exists():
                    with _lock_folder(self.folder):
                        if not path.exists():
                            self._write_rows(path, matches)
                if path.stat().st_size:  # an empty file cannot be mapped
                    return map_rows(path)
        rows = np.concatenate([np.empty(0, dtype=np.int64), *self._matching_rows(matches)])
        rows.setflags(write=False)
        return rows

    def _write_rows(self, path: Path, matches: Callable[[pa.RecordBatch], Any]) -> None:
        with write_atomically(path) as temporary, temporary.open("wb") as file:
            for rows in self._matching_rows(matches):
                file.write(rows.tobytes())

    def _matching_rows(self, matches: Callable[[pa.RecordBatch], Any]) -> Iterator[np.ndarray]:
        for start, batch in zip(self._starts, self._batches, strict=False):
            yield start + np.flatnonzero(matches(batch).to_numpy(zero_copy_only=False)).astype(np.int64)
            self.release()


def parquet_footer(path: str, size: int, read: Callable[[int, int], bytes]) -> bytes:
    """The footer of index.parquet, which describes its contents.

    Args:
        path: Path of the file, for errors.
        size: Size of the file in bytes.
        read: Function of offset and size that returns bytes.

    Raises:
        ShardFormatError: It is not a Parquet file.
    """
    ending = read(max(0, size - 8), min(size, 8))
    length = int.from_bytes(ending[:4], "little") + 8
    if ending[4:] != b"PAR1" or length > size:
        raise ShardFormatError(f"{path}: damaged (no Parquet footer); run pack again")
    return read(size - length, length)


def map_index(
    manifest: Manifest, footer: bytes, fetch: Callable[[Path], Path], root: Path | None, path: str
) -> MappedIndex:
    """Opens the memory-mapped copy of an index, and creates it if missing.

    Args:
        manifest: The dataset's manifest.
        footer: Footer of index.parquet, from `parquet_footer`.
        fetch: Function of a scratch folder that returns the path of index.parquet on this machine.
        root: The folder of the dataset, None for a remote one.
        path: Path of index.parquet, for errors.

    Raises:
        ShardFormatError: index.parquet is damaged, has other columns, or belongs to another dataset.json.
    """
    shards = [(shard.name, shard.videos, shard.bytes, shard.sha256) for shard in manifest.shards]
    content = json.dumps([_LAYOUT_VERSION, manifest.identity, manifest.classes, manifest.folds, shards])
    name = MAPPED_PREFIX + hashlib.sha256(content.encode() + footer).hexdigest()[:32]
    parents = [user_cache_folder()] if root is None else [root, user_cache_folder()]
    for parent in parents:
        if (parent / name / _TABLE_NAME).exists():
            with suppress(OSError, ValueError, pa.ArrowException):
                return _open_copy(parent / name)
    for parent in parents:
        try:
            return _create_copy(parent / name, manifest, fetch, path)
        except OSError as error:
            _log.info("no mapped index in %s: %s", parent, error)
    _log.warning("%s: no place for a mapped copy, nor in %s: each process keeps its own", path, parents[-1])
    return MappedIndex(_read_into_memory(manifest, fetch, path), None)


def _open_copy(folder: Path, split_file: SplitReference | None = None) -> MappedIndex:
    with suppress(OSError):
        os.utime(folder)  # marks it as in use
    with (folder / _TABLE_NAME).open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    # Rows are accessed at random: huge pages and read-ahead would map megabytes for each.
    for advice in ("MADV_NOHUGEPAGE", "MADV_RANDOM"):
        with suppress(OSError, AttributeError):
            mapping.madvise(getattr(mmap, advice))
    table = pa.ipc.open_file(pa.BufferReader(pa.py_buffer(mapping))).read_all()
    if split_file is not None:
        splits = pa.ipc.open_file(pa.memory_map(str(folder / _splits_name(split_file)))).read_all()
        table = table.drop_columns(_SPLIT_COLUMNS)
        for name in splits.column_names:
            table = table.append_column(name, splits.column(name))
    return MappedIndex(table, folder, mapping, split_file)


def _splits_name(split_file: SplitReference) -> str:
    return f"splits-{split_file.sha256[:32]}{(split_file.groups_sha256 or '')[:16]}.arrow"


def _write_splits(path: Path, table: pa.Table) -> None:
    columns = table.select([name for name in (*_SPLIT_COLUMNS, SPLIT_GROUP.name) if name in table.column_names])
    with write_atomically(path) as temporary, pa.ipc.new_file(str(temporary), columns.schema) as writer:
        writer.write_table(columns)


def _create_copy(folder: Path, manifest: Manifest, fetch: Callable[[Path], Path], path: str) -> MappedIndex:
    folder.mkdir(parents=True, exist_ok=True)
    with _lock_folder(folder):
        with suppress(OSError, ValueError, pa.ArrowException):
            return _open_copy(folder)  # another process created it
        try:
            parquet = fetch(folder)
            _convert(parquet, folder / _TABLE_NAME, manifest, path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if parquet.parent == folder:
            parquet.unlink(missing_ok=True)
    _remove_stale_copies(folder)
    return _open_copy(folder)


def _convert(parquet: Path, target: Path, manifest: Manifest, path: str) -> None:
    started = time.monotonic()
    try:
        file = pq.ParquetFile(parquet, memory_map=True)
        schema = file.schema_arrow
        check_index_schema(schema, manifest, path)
        schema = schema.remove(schema.get_field_index(_EXCLUDED_COLUMN))
        with write_atomically(target) as temporary, pa.ipc.new_file(str(temporary), schema) as writer:
            for batch in file.iter_batches(BATCH_ROWS, columns=schema.names):
                writer.write_batch(batch)
    except pa.ArrowException as error:
        raise ShardFormatError(f"{path}: damaged ({str(error).splitlines()[0]}); run pack again") from None
    pa.default_memory_pool().release_unused()
    _log.info("mapped %s to %s in %.1f s", path, target, time.monotonic() - started)


def _read_into_memory(manifest: Manifest, fetch: Callable[[Path], Path], path: str) -> pa.Table:
    with TemporaryDirectory() as scratch:
        try:
            table = pq.read_table(fetch(Path(scratch)), partitioning=None)
        except (OSError, pa.ArrowException) as error:
            raise ShardFormatError(f"{path}: damaged ({str(error).splitlines()[0]}); run pack again") from None
    check_index_schema(table.schema, manifest, path)
    return table_without_hashes(table)


def table_without_hashes(table: pa.Table) -> pa.Table:
    """The columns of an index that are kept in memory: all but the frame hashes."""
    return table.drop_columns([_EXCLUDED_COLUMN])


def _remove_stale_copies(folder: Path) -> None:
    """Removes all other copies beside a dataset, long unused ones in the cache folder; open mappings stay valid."""
    others = [other for other in folder.parent.glob(f"{MAPPED_PREFIX}*") if other != folder]
    for other in others:
        with suppress(OSError):
            if (folder.parent / INDEX_NAME).exists() or time.time() - other.stat().st_mtime > _MAX_UNUSED_S:
                shutil.rmtree(other, ignore_errors=True)


@contextmanager
def _lock_folder(folder: Path) -> Iterator[None]:
    """Lock for one process of the node at a time; on file systems without locks, all do the same work, harmlessly."""
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(file_lock(folder / "lock"))
        yield
