"""index.parquet: the columns of the index, and writing of index and dataset.json from the rows of the shards."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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
        ("frame_hashes", pa.list_(pa.uint64())),
    ]
)
# An additional last column, if any video of the dataset has captions.
CAPTIONS = pa.field("captions", pa.list_(pa.string()))


def dataset_identity(rows: Sequence[ShardRow]) -> str:
    """The sha256 that identifies a dataset's content, see `Manifest.identity`."""
    described = ((row.key, row.description) for row in rows)
    return identity_of((key, said.split, said.fold_splits, said.label, said.content_sha256) for key, said in described)


def identity_of(videos: Iterable[tuple[str, str, Sequence[str], str, str]]) -> str:
    """`dataset_identity` from (key, split, fold splits, class name, content_sha256) of each video, in any order."""
    digest = hashlib.sha256()
    for key, split, fold_splits, label, content_sha256 in sorted(videos, key=lambda video: video[0]):
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
        said = row.description
        if row.key in keys:
            raise ValueError(f"key {row.key!r} is there twice: keys must be unique in a dataset")
        if said.label not in labels:
            raise ValueError(f"label {said.label!r} of {row.key} is not among the {len(labels)} classes")
        keys.add(row.key)
    manifest = Manifest(
        name=name,
        classes=list(classes),
        folds=list(folds),
        splits=count_splits(((row.description.split, row.description.label) for row in rows), classes),
        shards=sorted(shards, key=lambda shard: shard.name),
        encode=encode,
        versions=versions,
        identity=dataset_identity(rows),
        fold_counts=_count_folds(rows, classes, folds),
        renditions=list(renditions),
        rendition_of=rendition_of,
    )
    _write_index(root, rows, labels, manifest.identity)
    write_manifest(root, manifest)
    return manifest


def count_splits(videos: Iterable[tuple[str, str]], classes: Sequence[str]) -> dict[str, SplitCounts]:
    """Counts by split, in alphabetical order, from (split, class name) of all videos."""
    counts: dict[str, dict[str, int]] = {}
    for split, label in videos:
        counts.setdefault(split, dict.fromkeys(classes, 0))[label] += 1
    return {split: SplitCounts(sum(of.values()), of) for split, of in sorted(counts.items())}


def _count_folds(
    rows: Sequence[ShardRow], classes: Sequence[str], folds: Sequence[str]
) -> dict[str, dict[str, SplitCounts]]:
    """Counts by fold, then by split; a video that a fold does not use (its split is "") is not counted there."""
    said = [row.description for row in rows if len(row.description.fold_splits) == len(folds)]
    return {
        fold: count_splits(((one.fold_splits[i], one.label) for one in said if one.fold_splits[i]), classes)
        for i, fold in enumerate(folds)
    }


def _write_index(root: Path, rows: Sequence[ShardRow], labels: dict[str, int], identity: str) -> None:
    schema = INDEX_SCHEMA
    if any(row.description.captions for row in rows):
        schema = schema.append(CAPTIONS)
    columns: dict[str, list[Any]] = {name: [] for name in schema.names}
    for row in rows:
        values = row._asdict() | row.description._asdict() | {"label": labels[row.description.label]}
        for name, column in columns.items():
            column.append(values[name])
    table = pa.table(columns, schema=schema.with_metadata({_IDENTITY: identity.encode()}))
    with write_atomically(root / INDEX_NAME) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_index_table(root: Path, manifest: Manifest) -> pa.Table:
    """Maps index.parquet into an Arrow table of `INDEX_SCHEMA`, with `CAPTIONS` if the dataset has captions.

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


def check_index_schema(schema: pa.Schema, manifest: Manifest, where: str) -> None:
    """Checks by its Arrow schema that an index has the right columns and belongs to the manifest; `where` is its path.

    Raises:
        ShardFormatError: It has other columns, or belongs to another dataset.json.
    """
    plain = schema.remove(len(schema) - 1) if schema.field(len(schema) - 1).equals(CAPTIONS) else schema
    if plain.names != INDEX_SCHEMA.names or plain.types != INDEX_SCHEMA.types:
        raise ShardFormatError(f"{where}: its columns are not those of a packed dataset; run pack again")
    if (schema.metadata or {}).get(_IDENTITY, b"").decode() != manifest.identity:
        raise ShardFormatError(f"{where}: does not belong to the {MANIFEST_NAME} beside it; run pack again")
