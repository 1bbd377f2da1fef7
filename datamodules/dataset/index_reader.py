"""Reader of the values in an index: a row, or a column for some rows."""

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.dataset.index_table import (
    CAPTIONS,
    FLOW,
    INDEX_NAME,
    INDEX_SCHEMA,
    LABELS,
    NO_LABEL,
    SPLIT_GROUP,
    TIMELINE,
    labels_by_row,
    read_index_table,
)
from datamodules.dataset.manifest import Manifest
from datamodules.dataset.mapped_index import MappedIndex
from datamodules.storage.local_files import OpenShards, WholeFiles
from datamodules.storage.prefetch import ByteRange
from datamodules.storage.remote_files import RemoteFiles

_NUMBERS = (pa.int32(), pa.int64(), pa.float64(), pa.bool_())  # types of columns that are returned as arrays


class VideoEntry(NamedTuple):
    """A row of the index: `label` is the index into `DatasetIndex.classes`, other fields as in `VideoDescription`.

    `label` is -1 for a video without a label, and in a dataset of several labels, where `labels` has the indices of the
    video's classes, ascending. `source_start` and `source_end` are None for whole videos; `flow_size` is 0 without
    optical flow.

    Frame hashes, which training does not use, are read by `DatasetIndex.column`, captions by `captions`.
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
    variable_rate: bool
    pixel_aspect: float
    source_start: float | None = None
    source_end: float | None = None
    labels: tuple[int, ...] = ()
    flow_offset: int = 0
    flow_size: int = 0
    flow_sha256: str = ""

    def video_range(self, row: int) -> ByteRange:
        """Where the video is; `row` is that of this entry."""
        return ByteRange(row, self.shard, self.video_offset, self.video_size, self.content_sha256)

    def flow_range(self, row: int) -> ByteRange:
        """Where its optical flow is; `row` is that of this entry."""
        return ByteRange(row, self.shard, self.flow_offset, self.flow_size, self.flow_sha256)

    def describe_segment(self) -> str:
        """The source of a segment and its place there, such as `talk.mp4, 1.50 to 2.25 s`; "" for a whole video."""
        if self.source_start is None or self.source_end is None:
            return ""
        return f"{self.source}, {self.source_start:.2f} to {self.source_end:.2f} s"


class IndexValues:
    """Reads values of the index from the memory-mapped table, and frame hashes from index.parquet.

    Args:
        manifest: The dataset's manifest.
        mapped: The memory-mapped index.
        files: The files of the dataset, with index.parquet.
    """

    def __init__(self, manifest: Manifest, mapped: MappedIndex, files: OpenShards | RemoteFiles | WholeFiles) -> None:
        self._manifest = manifest
        self._mapped = mapped
        self._files = files
        # A video's row is read several times: when announced, read, decoded and put into its batch.
        self.entry = lru_cache(maxsize=256)(partial(_read_entry, mapped))
        self.timeline = lru_cache(maxsize=256)(partial(_read_timeline, mapped))

    def column(self, name: str, rows: np.ndarray | Sequence[int]) -> np.ndarray | list[Any]:
        """Values of an index column for some rows: an array for numbers, a list for strings and lists of strings.

        Args:
            name: A column of the index; or `split_group`, the groups of the split file if it has any, else `group`.
            rows: Row numbers.
        """
        further = (LABELS.name, CAPTIONS.name)
        if name == SPLIT_GROUP.name and name not in self._mapped.table.schema.names:
            name = "group"
        flow = tuple(field.name for field in FLOW) if self.has_flow else ()
        if name not in (*INDEX_SCHEMA.names, *further, *flow, SPLIT_GROUP.name):
            raise ValueError(f"column {name!r}: the index has {', '.join((*INDEX_SCHEMA.names, *further))}")
        if name in further and name not in self._mapped.table.schema.names:
            return [[] for _ in rows]
        column = self._frame_hashes() if name == "frame_hashes" else self._mapped.table.column(name)
        taken = column.take(pa.array(np.asarray(rows, dtype=np.int64)))
        self._mapped.release()
        if taken.type in _NUMBERS:
            numbers: np.ndarray = taken.to_numpy()
            return numbers
        values: list[Any] = taken.to_pylist()
        return values

    def flat_labels(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `DatasetIndex.flat_labels`."""
        places = pa.array(np.asarray(rows, dtype=np.int64))
        if self.has_timelines:
            parts = labels_by_row(self._mapped.table.take(places))
            labels = np.array([label for of_video in parts for label in of_video], np.int64)
            counts = np.array([len(of_video) for of_video in parts], np.int64)
            return labels, counts
        if LABELS.name in self._mapped.table.schema.names:
            lists = self._mapped.table.column(LABELS.name).take(places).combine_chunks()
            counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
            labels = lists.flatten().to_numpy().astype(np.int64)
        else:
            labels = self._mapped.table.column("label").take(places).to_numpy().astype(np.int64)
            counts = (labels != NO_LABEL).astype(np.int64)
            labels = labels[labels != NO_LABEL]
        self._mapped.release()
        return labels, counts

    @property
    def has_segments(self) -> bool:
        """Whether any video is a segment of its source."""
        starts = self._mapped.table.column("source_start")
        return bool(starts.null_count < len(starts))

    @property
    def has_captions(self) -> bool:
        """Whether any video has a caption."""
        return CAPTIONS.name in self._mapped.table.schema.names

    @property
    def has_flow(self) -> bool:
        """Whether any video has optical flow."""
        return FLOW[0].name in self._mapped.table.schema.names

    @property
    def has_timelines(self) -> bool:
        """Whether labels have times within the videos."""
        return TIMELINE.name in self._mapped.table.schema.names

    def byte_ranges(self, rows: Sequence[int], video: bool, flow: bool) -> list[ByteRange]:
        """Byte ranges of the videos, of their flow, or of both, in the order in which they are read."""
        entries = [(row, self.entry(row)) for row in rows]
        pairs = [[entry.video_range(row)] * video + [entry.flow_range(row)] * flow for row, entry in entries]
        return [byte_range for pair in pairs for byte_range in pair]

    def captions(self, row: int) -> list[str] | None:
        """The captions of a video; None or [] if it has none."""
        return self._mapped.row(row, [CAPTIONS.name])[CAPTIONS.name] if self.has_captions else None

    def frame_hashes(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `DatasetIndex.frame_hashes`."""
        taken = self._frame_hashes().take(pa.array(np.asarray(rows, dtype=np.int64))).combine_chunks()
        counts = pc.fill_null(pc.list_value_length(taken), 0).to_numpy().astype(np.int64)
        return taken.flatten().to_numpy(), np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])

    def _frame_hashes(self) -> Any:
        """The column of frame hashes in index.parquet, which is not kept in memory."""
        if isinstance(self._files, WholeFiles):
            return pa.chunked_array([pa.nulls(self._mapped.table.num_rows, pa.list_(pa.uint64()))])
        if isinstance(self._files, OpenShards):
            return read_index_table(self._files.root, self._manifest).column("frame_hashes")
        with TemporaryDirectory() as scratch:
            self._files.fetch(INDEX_NAME, Path(scratch))
            return read_index_table(Path(scratch), self._manifest).column("frame_hashes")


def _read_timeline(mapped: MappedIndex, row: int) -> tuple[tuple[int, float, float], ...]:
    parts = mapped.row(row, [TIMELINE.name])[TIMELINE.name]
    return tuple((part["label"], part["start"], part["end"]) for part in parts)


def _read_entry(mapped: MappedIndex, row: int) -> VideoEntry:
    there = mapped.table.schema.names
    values = mapped.row(row, [name for name in VideoEntry._fields if name in there])
    values["fold_splits"] = tuple(values["fold_splits"])
    values["labels"] = tuple(values.get("labels", ()))
    return VideoEntry(**values)
