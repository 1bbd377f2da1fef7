"""`VideoFeatures`: a file of features as input of linear classifiers: one normalized row a video.

Features above the memory limit are written to an unnamed temporary file, which is read block by block and disappears
with the process.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datamodules.annotations.records import Task
from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.features.feature_files import (
    find_layer,
    from_feature_column,
    naming_damaged_file,
    open_parquet,
    read_provenance,
)
from pipeline.linear.feature_blocks import FeatureRows
from pipeline.linear.feature_normalization import FeatureNormalization, Normalization
from pipeline.metrics.predictions import read_labels

_BATCH_BYTES = 2**24
_ROW_COLUMNS = ("key", "label", "labels", "group", "seen", "clip")


class VideoFeatures(NamedTuple):
    """Features of M videos, with labels, keys and groups.

    Attributes:
        path: the Parquet file that they were read from.
        features: M rows of length 1.
        labels: int64 (M,), class numbers; or with several labels a video uint8 (M, K), 1 where the video has the class.
        keys: the M video keys.
        groups: the M groups; a video without a group has its key as group.
        seen: bool (M,), whether the network was trained on the video or its group.
        provenance: the provenance in the file's metadata; `layers` has the layers that were read, with their shapes,
            `layer` their names joined by +, and `normalize` how the rows are scaled.
    """

    path: Path
    features: FeatureRows
    labels: NDArray[np.integer]
    keys: list[str]
    groups: list[str]
    seen: NDArray[np.bool_]
    provenance: dict[str, Any]

    def choose(self, positions: NDArray[np.int64]) -> Self:
        """A subset of the videos, by their positions, int64, ascending."""
        return self._replace(
            features=self.features.choose(positions),
            labels=self.labels[positions],
            keys=[self.keys[position] for position in positions],
            groups=[self.groups[position] for position in positions],
            seen=self.seen[positions],
        )


class _RowColumns(NamedTuple):
    """The columns other than features of a file of N rows of M videos.

    Attributes:
        is_used: bool (N,), the rows to average: where a file has rows of videos beside rows of clips, those of videos.
        video_of_row: int64 (rows used,), the number of each used row's video, numbered by first appearance.
        first_rows: int64 (M,), the first used row of each video.
        table: the columns key, label or labels, group, seen and clip of the N rows, those that the file has.
    """

    is_used: NDArray[np.bool_]
    video_of_row: NDArray[np.int64]
    first_rows: NDArray[np.int64]
    table: pa.Table


def read_videos(
    path: Path,
    layers: Sequence[str] | None = None,
    max_memory_gb: float = 4.0,
    folder: Path | None = None,
    normalize: Normalization = "l2",
) -> VideoFeatures:
    """Reads features, averages the rows of each video and normalizes the means.

    Args:
        path: Parquet file that `features` wrote.
        layers: the layers whose features are read, in a file of several; several are concatenated.
        max_memory_gb: features that take more GiB are put into a temporary file.
        folder: folder for the temporary file; default: the system's folder of temporary files.
        normalize: `l2` or `signed_sqrt`, see `FeatureNormalization`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has no features, or is damaged; features are not finite, or exceed `max_memory_gb` while
            the rows of a video are not next to each other.
    """
    provenance = read_provenance(path)
    columns, provenance = _find_layers(provenance, layers, path)
    normalization = FeatureNormalization.of_features(provenance, normalize)
    row_columns, dimension = _read_row_columns(path), sum(normalization.block_sizes)
    num_videos = len(row_columns.first_rows)
    if not num_videos:
        raise ValueError(f"{path}: holds no videos")
    if not provenance["classes"]:
        raise ValueError(
            f"{path}: its videos have no labels, from which a linear classifier learns; export features of a dataset "
            "that was packed from a list with a column label"
        )
    fits_in_memory = 4 * dimension * num_videos <= max_memory_gb * 2**30
    batches = _read_batches(path, columns, row_columns.is_used)
    if (np.diff(row_columns.video_of_row) >= 0).all():
        means = _average_contiguous(batches, row_columns.video_of_row)
    elif fits_in_memory:
        means = iter([_average_unordered(batches, row_columns.video_of_row, num_videos, dimension)])
    else:
        raise ValueError(f"{path}: the rows of a video are not next to each other; raise --max-memory-gb, or sort them")
    normalized = _normalize(means, normalization, path)
    rows = (
        _store_in_memory(normalized, num_videos, dimension)
        if fits_in_memory
        else _store_in_file(normalized, dimension, folder)
    )
    keys = row_columns.table.column("key").take(row_columns.first_rows).to_pylist()
    groups = row_columns.table.column("group").take(row_columns.first_rows).to_pylist()
    seen = np.zeros(num_videos, dtype=bool)
    if "seen" in row_columns.table.column_names:
        seen = row_columns.table.column("seen").take(row_columns.first_rows).to_numpy().astype(bool)
    return VideoFeatures(
        path,
        rows,
        read_labels(row_columns.table.take(row_columns.first_rows), len(provenance["classes"])),
        keys,
        [group or key for group, key in zip(groups, keys, strict=True)],
        seen,
        provenance | {"normalize": normalize},
    )


def refuse_unlabelled(videos: VideoFeatures) -> None:
    """Raises ValueError if videos have no label, as those of official test lists."""
    count = int((videos.labels < 0).sum())
    if count:
        raise ValueError(
            f"{videos.path}: {count} of {len(videos.keys)} videos have no label, against which a linear classifier is "
            "fitted and tested; export splits with labels, each to a file (`features --split NAME`), and give --train "
            "and --test"
        )


def task_of(provenance: Mapping[str, Any]) -> Task:
    """The task of the dataset that features were exported from: `single_label` or `multi_label`."""
    task: Task = provenance.get("task", "single_label")
    return task


def choose_split(all_videos: VideoFeatures, index: DatasetIndex, split: str, fold: str | None) -> VideoFeatures:
    """Chooses the videos of a split from the features of the whole dataset.

    Raises:
        ValueError: there is no such split or fold, or one of its videos has no features.
    """
    index_rows = index.readable_rows(split, fold)
    keys = index.column("key", index_rows)
    positions = {key: number for number, key in enumerate(all_videos.keys)}
    missing = [key for key in keys if key not in positions]
    if missing:
        subset = split if fold is None else f"fold {fold}"
        raise ValueError(
            f"features={all_videos.path}: has not {len(missing)} videos of {subset}, first {missing[0]}; export "
            "--split all"
        )
    chosen = all_videos.choose(np.sort(np.array([positions[key] for key in keys], dtype=np.int64)))
    refuse_unlabelled(chosen)
    split_file = None if index.split_file is None else index.split_file._asdict()
    group_of_key = dict(zip(keys, index.column("split_group", index_rows), strict=True))
    return chosen._replace(
        groups=[group_of_key[key] or key for key in chosen.keys],
        provenance=all_videos.provenance | {"split": split, "fold": fold, "split_file": split_file},
    )


def _find_layers(
    provenance: dict[str, Any], layers: Sequence[str] | None, path: Path
) -> tuple[list[str], dict[str, Any]]:
    """The columns of the layers, in the order in which they were named, and the provenance of these layers alone."""
    if layers:
        found = {name: find_layer(provenance, name, path) for name in layers}
    else:
        only = find_layer(provenance, None, path)
        found = {provenance.get("layer") or next(iter(provenance["layers"])): only}
    shapes = {name: shape for name, (_, shape) in found.items()}
    return [column for column, _ in found.values()], provenance | {"layer": " + ".join(shapes), "layers": shapes}


def _read_row_columns(path: Path) -> _RowColumns:
    file = open_parquet(path)
    with naming_damaged_file(path):
        table = file.read(columns=[name for name in _ROW_COLUMNS if name in file.schema_arrow.names])
    is_used = np.ones(len(table), dtype=bool)
    if "clip" in table.column_names and table.column("clip").null_count:
        is_used = table.column("clip").is_null().to_numpy()
    rows = np.flatnonzero(is_used)
    video_of_row = (
        table.column("key").take(rows).combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    )
    first = np.unique(video_of_row, return_index=True)[1]
    return _RowColumns(is_used, video_of_row, rows[first], table)


def _read_batches(path: Path, columns: Sequence[str], is_used: NDArray[np.bool_]) -> Iterator[NDArray[np.float32]]:
    """Yields the features of the used rows, the columns side by side, at most 16 MiB at a time: float32 (B, D)."""
    file = open_parquet(path)
    row_bytes = 4 * sum(file.schema_arrow.field(column).type.list_size for column in columns)
    done = 0
    with naming_damaged_file(path):
        for batch in file.iter_batches(max(1, _BATCH_BYTES // row_bytes), columns=list(columns)):
            is_kept = is_used[done : done + batch.num_rows]
            done += batch.num_rows
            if is_kept.any():
                values = [from_feature_column(batch.column(column))[is_kept] for column in columns]
                yield np.concatenate(values, axis=1).astype(np.float32, copy=False)


def _average_contiguous(
    batches: Iterator[NDArray[np.float32]], video_of_row: NDArray[np.int64]
) -> Iterator[NDArray[np.floating]]:
    """Yields the mean of each video's rows, which are next to each other in the file: float (videos, D), by batch."""
    counts = np.bincount(video_of_row)
    if (counts == 1).all():
        yield from batches
        return
    done, pending, last = 0, None, -1
    for batch in batches:
        batch_videos = video_of_row[done : done + len(batch)]
        done += len(batch)
        first = np.concatenate([[0], np.flatnonzero(batch_videos[1:] != batch_videos[:-1]) + 1])
        sums = np.add.reduceat(batch.astype(np.float64), first)
        if pending is not None:
            if last == batch_videos[0]:
                sums[0] += pending
            else:
                yield pending[None] / counts[last]
        completed = batch_videos[first[:-1]]
        if len(completed):
            yield sums[:-1] / counts[completed][:, None]
        pending, last = sums[-1], batch_videos[-1]
    if pending is not None:
        yield pending[None] / counts[last]


def _average_unordered(
    batches: Iterator[NDArray[np.float32]], video_of_row: NDArray[np.int64], videos: int, size: int
) -> NDArray[np.float64]:
    """The mean of each video's rows, in any order in the file: float64 (videos, D)."""
    sums, done = np.zeros((videos, size)), 0
    for batch in batches:
        np.add.at(sums, video_of_row[done : done + len(batch)], batch)
        done += len(batch)
    return sums / np.bincount(video_of_row)[:, None]


def _normalize(
    means: Iterator[NDArray[np.floating]], normalization: FeatureNormalization, path: Path
) -> Iterator[NDArray[np.float32]]:
    for block in means:
        num_broken = int((~np.isfinite(block).all(axis=1)).sum())
        if num_broken:
            raise ValueError(f"{path}: the features of {num_broken} rows are not finite: did the training diverge?")
        yield normalization.apply(block)


def _store_in_memory(blocks: Iterator[NDArray[np.float32]], videos: int, size: int) -> FeatureRows:
    rows, done = np.empty((videos, size), np.float32), 0
    for block in blocks:
        rows[done : done + len(block)] = block
        done += len(block)
    return FeatureRows.from_array(rows)


def _store_in_file(blocks: Iterator[NDArray[np.float32]], size: int, folder: Path | None) -> FeatureRows:
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as the rows
    for block in blocks:
        file.write(block.data)
    file.flush()
    return FeatureRows(file, size)
