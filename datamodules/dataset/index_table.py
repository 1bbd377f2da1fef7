"""index.parquet: the columns of the index, and writing of index and dataset.json from the rows of the shards."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.annotations.records import Task, Timeline
from datamodules.dataset.manifest import MANIFEST_NAME, Manifest, Rendition, ShardFile, SplitCounts, write_manifest
from datamodules.dataset.shard_tar import ShardRow
from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.errors import ShardFormatError

INDEX_NAME = "index.parquet"
_IDENTITY = b"identity"
INDEX_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("split", pa.string()),
        ("fold_splits", pa.list_(pa.string())),
        ("group", pa.string()),
        ("label", pa.int32()),
        ("shard", pa.string()),
        ("video_offset", pa.int64()),
        ("video_size", pa.int64()),
        ("num_frames", pa.int32()),
        ("fps", pa.float64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("duration_s", pa.float64()),
        ("content_sha256", pa.string()),
        ("source", pa.string()),
        ("variable_rate", pa.bool_()),
        ("pixel_aspect", pa.float64()),
        ("source_start", pa.float64()),
        ("source_end", pa.float64()),
        ("frame_hashes", pa.list_(pa.uint64())),
    ]
)
# Further columns, in this order: the classes of each video, if the dataset's task is `multi_label` (`label` is -1
# then); captions, if any video has one; the flow, see `FLOW`; labels by time, see `TIMELINE`.
LABELS = pa.field("labels", pa.list_(pa.int32()))
CAPTIONS = pa.field("captions", pa.list_(pa.string()))
# Place and digest of the optical flow of each video, if any video has it; 0, 0 and "" for one without.
FLOW = (pa.field("flow_offset", pa.int64()), pa.field("flow_size", pa.int64()), pa.field("flow_sha256", pa.string()))
# The labelled parts of each video, in seconds, in a dataset of labels by time.
_PART = pa.struct([("label", pa.int32()), ("start", pa.float64()), ("end", pa.float64())])
TIMELINE = pa.field("timeline", pa.list_(_PART))
SPLIT_GROUP = pa.field("split_group", pa.string())  # in memory alone: the groups of a split file that has some
NO_LABEL = -1


def dataset_identity(rows: Sequence[ShardRow]) -> str:
    """The sha256 that identifies a dataset's content, see `Manifest.identity`."""
    described = ((row.key, row.description) for row in rows)
    return identity_of(
        (
            key,
            video.split,
            video.fold_splits,
            identifying_labels(video.class_names, video.timeline),
            video.content_sha256,
        )
        for key, video in described
    )


def identifying_labels(class_names: Sequence[str], timeline: Timeline | None) -> Sequence[str]:
    """What the identity of a dataset takes for the classes of a video: with their times, where labels have times."""
    return class_names if timeline is None else [json.dumps(part) for part in timeline]


def identity_of(videos: Iterable[tuple[str, str, Sequence[str], Sequence[str], str]]) -> str:
    """`dataset_identity` from (key, split, fold splits, class names, content_sha256) of each video, in any order."""
    digest = hashlib.sha256()
    for key, split, fold_splits, class_names, content_sha256 in sorted(videos, key=lambda video: video[0]):
        label = class_names[0] if len(class_names) == 1 else json.dumps(sorted(class_names))
        values = (key, split, *fold_splits, label, content_sha256)
        line = "\t".join(values)
        if line.count("\t") >= len(values) or "\n" in line or not key:
            line = f"\t{json.dumps(values)}"  # unambiguous: foreign keys may have tabs and line feeds
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


def write_dataset(
    root: Path,
    name: str,
    rows: Sequence[ShardRow],
    shards: Sequence[ShardFile],
    classes: Sequence[str],
    folds: Sequence[str],
    encode: dict[str, Any],
    versions: dict[str, str],
    renditions: Sequence[Rendition] = (),
    rendition_of: str = "",
) -> Manifest:
    """Turns a folder of finished tars into a dataset: writes index.parquet, then dataset.json, atomically.

    Args:
        root: The folder with the tars.
        name: Name of the dataset.
        rows: The rows of the videos, from `index_shard`.
        shards: The tars, which are listed in dataset.json with their checksums.
        classes: Class names in the order of the labels.
        folds: Names of the folds, empty for fixed splits.
        encode: Encoder settings, plain values, for dataset.json.
        versions: Library versions, for dataset.json.
        renditions: See `Manifest`.
        rendition_of: See `Manifest`.

    Returns:
        The manifest that was written.

    Raises:
        ValueError: A key occurs twice, or a label is not among `classes`.
    """
    rows = sorted(rows, key=lambda row: (row.shard, row.video_offset))
    labels = {label: position for position, label in enumerate(classes)}
    keys: set[str] = set()
    for row in rows:
        description = row.description
        if row.key in keys:
            raise ValueError(f"key {row.key!r} is there twice: keys must be unique in a dataset")
        for label in description.class_names:
            if label not in labels:
                raise ValueError(f"label {label!r} of {row.key} is not among the {len(labels)} classes")
        keys.add(row.key)
    manifest = Manifest(
        name=name,
        classes=list(classes),
        folds=list(folds),
        splits=count_splits(((row.description.split, row.description.class_names) for row in rows), classes),
        shards=sorted(shards, key=lambda shard: shard.name),
        encode=encode,
        versions=versions,
        identity=dataset_identity(rows),
        fold_counts=_count_folds(rows, classes, folds),
        renditions=list(renditions),
        rendition_of=rendition_of,
        task=_task_of(rows),
    )
    _write_index(root, rows, labels, manifest)
    write_manifest(root, manifest)
    return manifest


def _task_of(rows: Sequence[ShardRow]) -> Task:
    """The task that all videos agree on; raises ValueError if they do not."""
    tasks = {row.description.task for row in rows}
    if len(tasks) > 1:
        raise ValueError("some videos have one label and some have lists of labels: these shards are of two datasets")
    return tasks.pop() if tasks else "single_label"


def has_timelines(rows: Sequence[ShardRow]) -> bool:
    """Whether the videos have labels by time.

    Raises:
        ValueError: Some have and some have not.
    """
    with_timelines = {row.description.timeline is not None for row in rows}
    if len(with_timelines) > 1:
        raise ValueError("some videos have labels by time and some have not: these shards are of two datasets")
    return with_timelines == {True}


def count_splits(videos: Iterable[tuple[str, Sequence[str]]], classes: Sequence[str]) -> dict[str, SplitCounts]:
    """Counts by split, in alphabetical order, from (split, class names) of all videos."""
    totals: Counter[str] = Counter()
    counts: dict[str, dict[str, int]] = {}
    for split, class_names in videos:
        totals[split] += 1
        class_counts = counts.setdefault(split, dict.fromkeys(classes, 0))
        for label in class_names:
            class_counts[label] += 1
    return {split: SplitCounts(totals[split], class_counts) for split, class_counts in sorted(counts.items())}


def _count_folds(
    rows: Sequence[ShardRow], classes: Sequence[str], folds: Sequence[str]
) -> dict[str, dict[str, SplitCounts]]:
    """Counts by fold, then by split; a video that a fold does not use (its split is "") is not counted there."""
    descriptions = [row.description for row in rows if len(row.description.fold_splits) == len(folds)]
    return {
        fold: count_splits(
            (
                (description.fold_splits[i], description.class_names)
                for description in descriptions
                if description.fold_splits[i]
            ),
            classes,
        )
        for i, fold in enumerate(folds)
    }


def _write_index(root: Path, rows: Sequence[ShardRow], labels: dict[str, int], manifest: Manifest) -> None:
    schema = INDEX_SCHEMA
    if manifest.task == "multi_label":
        schema = schema.append(LABELS)
    if any(row.description.captions for row in rows):
        schema = schema.append(CAPTIONS)
    if any(row.flow_size for row in rows):
        for field in FLOW:
            schema = schema.append(field)
    if has_timelines(rows):
        schema = schema.append(TIMELINE)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for row in rows:
        description = row.description
        values = row._asdict() | description._asdict()
        values["label"] = labels[description.label] if description.label else NO_LABEL
        values["labels"] = sorted(labels[label] for label in description.labels)
        parts = description.timeline or ()
        values["timeline"] = [{"label": labels[name], "start": start, "end": end} for name, start, end in parts]
        for name, column in columns.items():
            column.append(values[name])
    table = pa.table(columns, schema=schema.with_metadata({_IDENTITY: manifest.identity.encode()}))
    with write_atomically(root / INDEX_NAME) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_index_table(root: Path, manifest: Manifest) -> pa.Table:
    """Maps index.parquet into an Arrow table of `INDEX_SCHEMA`, with further columns if the dataset has them.

    Raises:
        ShardFormatError: It is missing, damaged, has other columns, or belongs to another dataset.json.
    """
    path = root / INDEX_NAME
    try:
        table = pq.read_table(path, memory_map=True, partitioning=None)
    except FileNotFoundError:
        raise ShardFormatError(f"{root}: no {INDEX_NAME} beside {MANIFEST_NAME}; run pack again") from None
    except (OSError, pa.ArrowException) as error:
        raise ShardFormatError(f"{path}: damaged ({str(error).splitlines()[0]}); run pack again") from None
    check_index_schema(table.schema, manifest, str(path))
    return table


def labels_by_row(table: pa.Table) -> list[list[int]]:
    """Class indices of each video of an index: none, one, or in a dataset of several labels any number, ascending."""
    if LABELS.name in table.schema.names:
        several: list[list[int]] = table.column(LABELS.name).to_pylist()
        return several
    if TIMELINE.name in table.schema.names:
        return [sorted({part["label"] for part in parts}) for parts in table.column(TIMELINE.name).to_pylist()]
    return [[] if label == NO_LABEL else [label] for label in table.column("label").to_pylist()]


def check_index_schema(schema: pa.Schema, manifest: Manifest, path: str) -> None:
    """Checks by its Arrow schema that an index has the right columns and belongs to the manifest; `path` is for errors.

    Raises:
        ShardFormatError: It has other columns, or belongs to another dataset.json.
    """
    expected = INDEX_SCHEMA
    for field in (*((LABELS,) if manifest.task == "multi_label" else ()), CAPTIONS, *FLOW, TIMELINE):
        if field.name in schema.names or field is LABELS:
            expected = expected.append(field)
    if schema.names != expected.names or schema.types != expected.types:
        raise ShardFormatError(f"{path}: its columns are not those of a packed dataset; run pack again")
    if (schema.metadata or {}).get(_IDENTITY, b"").decode() != manifest.identity:
        raise ShardFormatError(f"{path}: does not belong to the {MANIFEST_NAME} beside it; run pack again")
