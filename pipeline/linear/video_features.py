"""`VideoFeatures`: a file of features as input of linear classifiers: one L2-normalized row a video.

Features above the memory limit are written to an unnamed temporary file, which is read block by block and disappears
with the process.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.features.feature_files import damage_named, find_layer, from_feature_column, open_parquet, read_provenance
from pipeline.linear.classifiers import normalize_l2
from pipeline.linear.feature_blocks import FeatureRows

_BATCH_BYTES = 2**24
_PLAIN = ("key", "label", "group", "seen", "clip")


class VideoFeatures(NamedTuple):
    """Features of M videos, with labels, keys and groups.

    Attributes:
        path: the Parquet file that they were read from.
        features: M rows, L2-normalized.
        labels: int64 (M,), class numbers.
        keys: the M video keys.
        groups: the M groups; a video without a group has its key as group.
        seen: bool (M,), whether the network was trained on the video or its group.
        provenance: the provenance in the file's metadata; `layer` is the layer that was read.
    """

    path: Path
    features: FeatureRows
    labels: NDArray[np.int64]
    keys: list[str]
    groups: list[str]
    seen: NDArray[np.bool_]
    provenance: dict[str, Any]

    def choose(self, places: NDArray[np.int64]) -> Self:
        """A subset of the videos, by their positions, int64, ascending."""
        return self._replace(
            features=self.features.choose(places),
            labels=self.labels[places],
            keys=[self.keys[place] for place in places],
            groups=[self.groups[place] for place in places],
            seen=self.seen[places],
        )


class _Plain(NamedTuple):
    """The columns other than features of a file of N rows of M videos.

    Attributes:
        used: bool (N,), the rows to average: where a file has rows of videos beside rows of clips, the rows of videos.
        owner: int64 (rows used,), the number of each used row's video, numbered by first appearance.
        first: int64 (M,), the first used row of each video.
        table: the columns key, label, group, seen and clip of the N rows, those that the file has.
    """

    used: NDArray[np.bool_]
    owner: NDArray[np.int64]
    first: NDArray[np.int64]
    table: pa.Table


def read_videos(
    path: Path, layer: str | None = None, max_memory_gb: float = 4.0, folder: Path | None = None
) -> VideoFeatures:
    """Reads features, averages the rows of each video and L2-normalizes the means.

    Args:
        path: Parquet file that `features` wrote.
        layer: the layer whose features are read, in a file of several layers.
        max_memory_gb: features that take more GiB are put into a temporary file.
        folder: folder for the temporary file; default: the system's folder of temporary files.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has no features, or is damaged; features are not finite, or exceed `max_memory_gb` while
            the rows of a video are not next to each other.
    """
    about = read_provenance(path)
    column, shape = find_layer(about, layer, path)
    plain, size = _read_plain(path), int(np.prod(shape))
    videos = len(plain.first)
    if not videos:
        raise ValueError(f"{path}: holds no videos")
    in_memory = 4 * size * videos <= max_memory_gb * 2**30
    batches = _batches(path, column, plain.used)
    if (np.diff(plain.owner) >= 0).all():
        means = _neighbors_averaged(batches, plain.owner)
    elif in_memory:
        means = iter([_averaged(batches, plain.owner, videos, size)])
    else:
        raise ValueError(f"{path}: the rows of a video are not next to each other; raise --max-memory-gb, or sort them")
    checked = _normalized(means, path)
    rows = _in_memory(checked, videos, size) if in_memory else _in_file(checked, size, folder)
    keys = plain.table.column("key").take(plain.first).to_pylist()
    groups = plain.table.column("group").take(plain.first).to_pylist()
    seen = np.zeros(videos, dtype=bool)
    if "seen" in plain.table.column_names:
        seen = plain.table.column("seen").take(plain.first).to_numpy().astype(bool)
    return VideoFeatures(
        path,
        rows,
        plain.table.column("label").take(plain.first).to_numpy().astype(np.int64),
        keys,
        [group or key for group, key in zip(groups, keys, strict=True)],
        seen,
        about | {"layer": layer or about.get("layer") or next(iter(about["layers"]))},
    )


def choose_split(every: VideoFeatures, index: DatasetIndex, split: str, fold: str | None) -> VideoFeatures:
    """Chooses the videos of a split from the features of the whole dataset.

    Raises:
        ValueError: there is no such split or fold, or one of its videos has no features.
    """
    keys = index.column("key", index.readable_rows(split, fold))
    places = {key: number for number, key in enumerate(every.keys)}
    missing = [key for key in keys if key not in places]
    if missing:
        of = split if fold is None else f"fold {fold}"
        raise ValueError(
            f"features={every.path}: has not {len(missing)} videos of {of}, first {missing[0]}; export --split all"
        )
    chosen = every.choose(np.sort(np.array([places[key] for key in keys], dtype=np.int64)))
    return chosen._replace(provenance=every.provenance | {"split": split, "fold": fold})


def _read_plain(path: Path) -> _Plain:
    file = open_parquet(path)
    with damage_named(path):
        table = file.read(columns=[name for name in _PLAIN if name in file.schema_arrow.names])
    used = np.ones(len(table), dtype=bool)
    if "clip" in table.column_names and table.column("clip").null_count:
        used = table.column("clip").is_null().to_numpy()
    rows = np.flatnonzero(used)
    numbers = table.column("key").take(rows).combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
    first = np.unique(numbers, return_index=True)[1]
    return _Plain(used, numbers, rows[first], table)


def _batches(path: Path, column: str, used: NDArray[np.bool_]) -> Iterator[NDArray[np.float32]]:
    """Yields the features of the used rows, at most 16 MiB at a time: float32 (B, D)."""
    file = open_parquet(path)
    row_bytes = 4 * file.schema_arrow.field(column).type.list_size
    done = 0
    with damage_named(path):
        for batch in file.iter_batches(max(1, _BATCH_BYTES // row_bytes), columns=[column]):
            kept = used[done : done + batch.num_rows]
            done += batch.num_rows
            if kept.any():
                yield from_feature_column(batch.column(0))[kept].astype(np.float32, copy=False)


def _neighbors_averaged(
    batches: Iterator[NDArray[np.float32]], owner: NDArray[np.int64]
) -> Iterator[NDArray[np.floating]]:
    """Yields the mean of each video's rows, which are next to each other in the file: float (videos, D), by batch."""
    counts = np.bincount(owner)
    if (counts == 1).all():
        yield from batches
        return
    done, waiting, last = 0, None, -1
    for batch in batches:
        owners = owner[done : done + len(batch)]
        done += len(batch)
        first = np.concatenate([[0], np.flatnonzero(owners[1:] != owners[:-1]) + 1])
        sums = np.add.reduceat(batch.astype(np.float64), first)
        if waiting is not None:
            if last == owners[0]:
                sums[0] += waiting
            else:
                yield waiting[None] / counts[last]
        ended = owners[first[:-1]]
        if len(ended):
            yield sums[:-1] / counts[ended][:, None]
        waiting, last = sums[-1], owners[-1]
    if waiting is not None:
        yield waiting[None] / counts[last]


def _averaged(
    batches: Iterator[NDArray[np.float32]], owner: NDArray[np.int64], videos: int, size: int
) -> NDArray[np.float64]:
    """The mean of each video's rows, in any order in the file: float64 (videos, D)."""
    sums, done = np.zeros((videos, size)), 0
    for batch in batches:
        np.add.at(sums, owner[done : done + len(batch)], batch)
        done += len(batch)
    return sums / np.bincount(owner)[:, None]


def _normalized(means: Iterator[NDArray[np.floating]], path: Path) -> Iterator[NDArray[np.float32]]:
    for block in means:
        broken = int((~np.isfinite(block).all(axis=1)).sum())
        if broken:
            raise ValueError(f"{path}: the features of {broken} rows are not finite: did the training diverge?")
        yield normalize_l2(block)


def _in_memory(blocks: Iterator[NDArray[np.float32]], videos: int, size: int) -> FeatureRows:
    rows, done = np.empty((videos, size), np.float32), 0
    for block in blocks:
        rows[done : done + len(block)] = block
        done += len(block)
    return FeatureRows.of(rows)


def _in_file(blocks: Iterator[NDArray[np.float32]], size: int, folder: Path | None) -> FeatureRows:
    file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as the rows
    for block in blocks:
        file.write(block.data)
    file.flush()
    return FeatureRows(file, size)
