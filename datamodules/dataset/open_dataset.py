"""Opening of a packed dataset in a folder or at a URL: manifest, mapped index, and reader of its shards."""

import json
import os
from pathlib import Path

from datamodules.dataset.index_table import INDEX_NAME
from datamodules.dataset.manifest import MANIFEST_NAME, Manifest, parse_manifest, read_manifest
from datamodules.dataset.mapped_index import MappedIndex, map_index, parquet_footer
from datamodules.storage.errors import ShardFormatError
from datamodules.storage.local_files import OpenShards
from datamodules.storage.remote_files import RemoteFiles, RetryPolicy, split_root


def open_folder(root: Path, max_open_files: int) -> tuple[Manifest, MappedIndex, OpenShards]:
    """Opens the dataset in a folder.

    Raises:
        ShardFormatError: A file is missing or damaged, or the files do not belong together.
    """
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


def open_url(files: RemoteFiles) -> tuple[Manifest, MappedIndex, RemoteFiles]:
    """Opens the dataset at a URL, without accessing shards.

    Raises:
        ShardFormatError: A file is missing, damaged or unreachable, or the files do not belong together.
    """
    manifest = _remote_manifest(files)
    path = f"{files.root}/{INDEX_NAME}"
    footer = parquet_footer(
        path, files.size(INDEX_NAME), lambda *offset_and_size: files.read_range(INDEX_NAME, *offset_and_size)
    )
    return manifest, map_index(manifest, footer, lambda folder: files.fetch(INDEX_NAME, folder), None, path), files


def open_manifest(root: str | Path, retry_policy: RetryPolicy = RetryPolicy()) -> Manifest:  # noqa: B008 # immutable
    """Reads only the dataset.json of a folder or URL.

    Raises:
        ShardFormatError: It is missing or damaged.
    """
    root = split_root(root)
    return read_manifest(root) if isinstance(root, Path) else _remote_manifest(RemoteFiles(root, retry_policy, None))


def _remote_manifest(files: RemoteFiles) -> Manifest:
    path = f"{files.root}/{MANIFEST_NAME}"
    try:
        content = json.loads(files.read_file(MANIFEST_NAME))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ShardFormatError(f"{path}: cannot be read as JSON ({error}); copy the dataset again") from None
    return parse_manifest(content, path)
