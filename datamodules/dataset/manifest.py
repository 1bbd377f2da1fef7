"""dataset.json, the manifest of a packed dataset: classes in label order, splits, shards with checksums, encoding."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from datamodules.annotations.records import ALL_VIDEOS, Task
from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.errors import ShardFormatError
from datamodules.storage.plain_text import to_json

MANIFEST_NAME = "dataset.json"
FORMAT_VERSION = 4  # version of dataset.json, index.parquet and the videos' descriptions
_OPTIONAL_FIELDS = ("fold_counts", "renditions", "rendition_of", "task")  # written only if not the default


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One tar of a dataset.

    Attributes:
        name: File name, `{dataset}-{split}-{i:06d}.tar`.
        split: The split of all its videos; `all` in a dataset with folds.
        videos: Number of videos.
        bytes: Size of the file.
        sha256: Digest of the whole file, hexadecimal.
    """

    name: str
    split: str
    videos: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """Number of videos of a split, in total and by class name (every class is listed, also with 0 videos)."""

    videos: int
    classes: dict[str, int]


@dataclass(frozen=True, order=True, slots=True)
class Rendition:
    """One size of the same videos: a complete dataset in its own folder.

    Attributes:
        short_side: Pixels of the shorter side; smaller videos keep their size.
        folder: Path relative to the folder of dataset.json; `.` for that folder itself.
    """

    short_side: int
    folder: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of dataset.json.

    Attributes:
        name: Name of the dataset, with which its shards' names begin.
        classes: Class names in label order.
        folds: Names of the folds, in the order of `fold_splits`; empty if the dataset has fixed splits.
        splits: Counts by split name.
        shards: The tars, in the order of the index.
        encode: Encoder settings, plain values.
        versions: Versions of the libraries that packed the videos.
        identity: sha256 over (key, split, fold splits, class name, content_sha256) of all videos, sorted by key. The
            same videos with the same labels have the same identity, independent of their distribution over shards.
        fold_counts: Counts by fold, then by split of that fold; empty if the dataset has fixed splits.
        renditions: All renditions of these videos, beginning with this one, the largest; empty if there is only one.
        rendition_of: In a smaller rendition, the identity of the largest, otherwise empty.
        task: `single_label`: each video has one class, or none (label -1 in the index); `multi_label`: any number of
            classes (column `labels` of the index).
        format_version: `FORMAT_VERSION`; datasets of other versions are refused.
    """

    name: str
    classes: list[str]
    folds: list[str]
    splits: dict[str, SplitCounts]
    shards: list[ShardFile]
    encode: dict[str, Any]
    versions: dict[str, str]
    identity: str
    fold_counts: dict[str, dict[str, SplitCounts]] = field(default_factory=dict)
    renditions: list[Rendition] = field(default_factory=list)
    rendition_of: str = ""
    task: Task = "single_label"
    format_version: int = field(default=FORMAT_VERSION)

    @property
    def encoded_by_us(self) -> bool:
        """Whether `pack` encoded the videos; with `--copy` and foreign tars they are as found."""
        return bool(self.encode) and not self.encode.get("copy", False)

    @property
    def is_undivided(self) -> bool:
        """Whether all videos are of the split `all`, as those of a bare folder."""
        return set(self.splits) == {ALL_VIDEOS} and not self.folds

    @property
    def family(self) -> str:
        """Identity shared by all renditions: they have the same keys, labels, splits and groups, row for row."""
        return self.rendition_of or self.identity


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Writes root/dataset.json atomically."""
    content = {"format_version": manifest.format_version} | asdict(manifest)
    for name in _OPTIONAL_FIELDS:
        if not content[name] or content[name] == "single_label":
            del content[name]
    with write_atomically(root / MANIFEST_NAME) as temporary:
        temporary.write_text(to_json(content, indent=2) + "\n", encoding="utf-8")


def read_manifest(root: Path) -> Manifest:
    """Reads and checks root/dataset.json.

    Raises:
        ShardFormatError: The folder or file is missing, not JSON, lacks a field, has one of another type, or has a
            newer or older format.
    """
    path = root / MANIFEST_NAME
    if root.is_file():
        raise ShardFormatError(
            f"{root}: is a file, and not the folder of a dataset that `python -m pipeline pack` wrote; `features` "
            "takes video files with --videos, `classify` as arguments"
        )
    if not root.is_dir():
        raise ShardFormatError(
            f"{root}: there is no such folder; `python -m pipeline pack --out {root}` makes a dataset"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ShardFormatError(
            f"{root}: no {MANIFEST_NAME} in it, so this is not a finished dataset; give the folder that `python -m "
            "pipeline pack` wrote, or run pack again to finish it"
        ) from None
    except (OSError, ValueError) as error:
        raise ShardFormatError(f"{path}: cannot be read as JSON ({error}); pack the dataset again") from None
    return parse_manifest(content, path)


def parse_manifest(content: object, path: Path | str) -> Manifest:
    """Checks the content of a dataset.json and converts it to a `Manifest`; `path` is for errors."""
    if not isinstance(content, dict):
        raise ShardFormatError(f"{path}: must hold a JSON object; pack the dataset again")
    version = _read_field(content, "format_version", int, path)
    if version != FORMAT_VERSION:
        age, fix = (
            ("newer", "update action-recognition-pipeline") if version > FORMAT_VERSION else ("older", "pack it again")
        )
        raise ShardFormatError(f"{path}: format_version {version} is {age} than this code's {FORMAT_VERSION}; {fix}")
    manifest = Manifest(
        name=_read_field(content, "name", str, path),
        classes=_read_names(content, "classes", path),
        folds=_read_names(content, "folds", path),
        splits=_read_split_counts(content, "splits", path),
        shards=[
            ShardFile(
                _read_field(shard, "name", str, path),
                _read_field(shard, "split", str, path),
                _read_field(shard, "videos", int, path),
                _read_field(shard, "bytes", int, path),
                _read_field(shard, "sha256", str, path),
            )
            for shard in _read_field(content, "shards", list, path)
        ],
        encode=_read_field(content, "encode", dict, path),
        versions=_read_field(content, "versions", dict, path),
        identity=_read_field(content, "identity", str, path),
        fold_counts={
            fold: _read_split_counts(content["fold_counts"], fold, path)
            for fold in _read_optional_field(content, "fold_counts", {}, path)
        },
        renditions=[
            Rendition(_read_field(rendition, "short_side", int, path), _read_field(rendition, "folder", str, path))
            for rendition in _read_optional_field(content, "renditions", [], path)
        ],
        rendition_of=_read_optional_field(content, "rendition_of", "", path),
        task=_task(content, path),
        format_version=version,
    )
    outside_folders = [
        rendition.folder
        for rendition in manifest.renditions
        if rendition.folder != "." and not _is_file_name(rendition.folder)
    ]
    if outside_folders:
        raise ShardFormatError(
            f"{path}: rendition {outside_folders[0]!r} must be a plain folder name; pack the dataset again"
        )
    outside_shards = [shard.name for shard in manifest.shards if not _is_file_name(shard.name)]
    if outside_shards:
        raise ShardFormatError(f"{path}: shard {outside_shards[0]!r} must be a plain file name; pack the dataset again")
    return manifest


def _task(content: Mapping[str, Any], path: Path | str) -> Task:
    task = _read_optional_field(content, "task", "single_label", path)
    if task not in get_args(Task):
        raise ShardFormatError(f"{path}: task {task!r} must be {' or '.join(get_args(Task))}; pack the dataset again")
    return task  # type: ignore[no-any-return]


def _is_file_name(name: str) -> bool:
    return Path(name).name == name and name != ".."


def _read_split_counts(content: Mapping[str, Any], name: str, path: Path | str) -> dict[str, SplitCounts]:
    return {
        split: SplitCounts(_read_field(counts, "videos", int, path), dict(_read_field(counts, "classes", dict, path)))
        for split, counts in _read_field(content, name, dict, path).items()
    }


def _read_optional_field(content: Mapping[str, Any], name: str, default: Any, path: Path | str) -> Any:
    return _read_field(content, name, type(default), path) if name in content else default


def _read_field(content: Mapping[str, Any], name: str, field_type: type, path: Path | str) -> Any:
    value = content.get(name) if isinstance(content, dict) else None
    if not isinstance(value, field_type) or isinstance(value, bool):
        raise ShardFormatError(
            f"{path}: {name!r} is missing or not of type {field_type.__name__}; pack the dataset again"
        )
    return value


def _read_names(content: Mapping[str, Any], name: str, path: Path | str) -> list[str]:
    names = _read_field(content, name, list, path)
    if not all(isinstance(item, str) for item in names) or len(set(names)) != len(names):
        raise ShardFormatError(f"{path}: {name!r} must be a list of different names; pack the dataset again")
    return list(names)
