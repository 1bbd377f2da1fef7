"""Sharded checkpoints: folders in which each rank has written its parts of the tensors that are in shards.

    content.ckpt    the checkpoint as one file would have it, with `meta` tensors in the place of those in shards
    shards-ID/      those tensors, as `torch.distributed.checkpoint` writes them: a file a rank, and `.metadata`

content.ckpt is written last, and names its folder of shards: where it is, the checkpoint is whole. As in other
checkpoints there are plain data and tensors only, and every part has a CRC-32 by torch. Which ranks wrote which part
does not matter: tensors are read whole, or the part that a rank needs, whatever the number of ranks.
"""

import hashlib
import io
import pickle
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import metadata as table
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from lightning_modules.weights.safe_load import load_plain

CONTENT_NAME = "content.ckpt"
SHARDS_PREFIX = "shards-"
_METADATA_NAME = ".metadata"
_SHARDS_ENTRY = "shards"
_METADATA_MODULES = ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")

_DAMAGE_ERRORS = (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error, pickle.UnpicklingError)

Keys = tuple[str | int, ...]


def is_sharded_checkpoint(path: str | Path) -> bool:
    """Whether a path is a folder with a whole sharded checkpoint."""
    return content_file(path) != Path(path)


def content_file(path: str | Path) -> Path:
    """The file with all of a checkpoint but sharded tensors: that in the folder, or the checkpoint if it is a file."""
    file = Path(path) / CONTENT_NAME
    return file if file.is_file() else Path(path)


def checkpoint_sha256(path: Path) -> str:
    """The SHA-256 of a checkpoint, hexadecimal; of a sharded one that of the digests of its files, in order."""
    files = [content_file(path)]
    if is_sharded_checkpoint(path):
        files += sorted(shards_folder(path).iterdir())
    digests = []
    for name in files:
        with name.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256"))
    if len(digests) == 1:
        return digests[0].hexdigest()
    return hashlib.sha256(b"".join(digest.digest() for digest in digests)).hexdigest()


def read_whole_checkpoint(path: str | Path, description: str, mmap: bool = False) -> Any:
    """Reads a checkpoint, one file or sharded, with whole tensors on the CPU.

    Args:
        path: file or folder.
        description: description of the checkpoint in errors, such as `checkpoint 'last.ckpt'`.
        mmap: whether to map the tensors of one file into memory, so that they are read on access.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint, damaged, or with more than plain data and tensors.
    """
    content = load_plain(content_file(path), description, mmap=mmap)
    return fill_shards(content, path, description) if is_sharded_checkpoint(path) else content


# Tensors within the nested dicts and lists of a checkpoint.


def map_tensors(content: Any, function: Callable[[Keys, Tensor], Any], keys: Keys = ()) -> Any:
    """A copy of nested dicts, lists and tuples in which each tensor is replaced.

    Args:
        content: the nested data.
        function: gets the keys that lead to a tensor, and the tensor.
        keys: the keys that lead to the content.
    """
    if isinstance(content, Tensor):
        return function(keys, content)
    if isinstance(content, Mapping):
        return {key: map_tensors(value, function, (*keys, key)) for key, value in content.items()}
    if type(content) in (list, tuple):
        return type(content)(map_tensors(value, function, (*keys, place)) for place, value in enumerate(content))
    return content


def take_out_shards(content: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Splits a checkpoint into what one rank writes, and the sharded tensors by their names.

    Args:
        content: the checkpoint; not changed.

    Returns:
        The content with `meta` tensors in place of those in shards; and those, none if nothing is in shards.
    """
    shards: dict[str, Tensor] = {}

    def take_out(keys: Keys, tensor: Tensor) -> Tensor:
        if not isinstance(tensor, DTensor):
            return tensor
        shards[_name(keys)] = tensor
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="meta")

    return map_tensors(content, take_out), shards


def write_shards(folder: Path, shards: Mapping[str, Tensor]) -> None:
    """Writes this rank's parts of sharded tensors to a folder; a collective.

    Raises:
        OSError: on all ranks, if one could not write.
    """
    try:
        save(dict(shards), storage_writer=FileSystemWriter(folder))
    except CheckpointException as error:
        raise OSError(_describe(error)) from error


def with_shards_folder(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The content of a sharded checkpoint, which names the folder of its shards."""
    return {**content, _SHARDS_ENTRY: name}


def shards_folder(path: str | Path) -> Path:
    """The folder of the shards that belong to the content of a sharded checkpoint."""
    name = load_plain(content_file(path), f"checkpoint {str(path)!r}", mmap=True, verify=False)[_SHARDS_ENTRY]
    return Path(path) / Path(name).name


def fill_shards(
    content: Mapping[str, Any],
    path: str | Path,
    description: str,
    target: Callable[[Keys, Tensor], Tensor] = lambda keys, tensor: torch.empty_like(tensor, device="cpu"),
) -> dict[str, Any]:
    """The content of a sharded checkpoint with its tensors read.

    Args:
        content: what content.ckpt holds, or some of its entries.
        path: folder of the checkpoint.
        description: description of the checkpoint in errors.
        target: gets the keys and the `meta` tensor of each sharded tensor; returns one to be filled, whole or a DTensor
            of which this rank's part is read. Default: whole, on the CPU.

    Raises:
        ValueError: files are missing or damaged.
    """
    targets: dict[str, Tensor] = {}

    def add_target(keys: Keys, tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor
        return targets.setdefault(_name(keys), target(keys, tensor))

    filled: dict[str, Any] = map_tensors(content, add_target)
    filled.pop(_SHARDS_ENTRY, None)
    folder = shards_folder(path)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # each rank reads by itself
            load(dict(targets), storage_reader=_PlainReader(folder), no_dist=True)
    except (CheckpointException, *_DAMAGE_ERRORS) as error:
        raise ValueError(
            f"{description}: its shards in {folder.name} cannot be read ({_describe(error)}); copy the whole folder "
            "again from where it came"
        ) from error
    return filled


def find_shard_damage(path: Path) -> str | None:
    """Describes the damage of a sharded checkpoint, found by the CRC-32 of all its parts; None if it is whole."""
    try:
        load_plain(path / CONTENT_NAME, CONTENT_NAME)
        folder = shards_folder(path)
        metadata = _PlainReader(folder).read_metadata()
        for part in metadata.storage_data.values():
            with (folder / part.relative_path).open("rb") as file:
                file.seek(part.offset)
                with zipfile.ZipFile(io.BytesIO(file.read(part.length))) as archive:
                    if archive.testzip() is not None:
                        return f"a checksum in {folder.name}/{part.relative_path} does not fit"
    except _DAMAGE_ERRORS as error:
        return _describe(error)
    return None


def _describe(error: BaseException) -> str:
    """The first line of an error; of one that ranks had, which rank, and its first line there."""
    if isinstance(error, CheckpointException):
        rank, (cause, _) = next(iter(error.failures.items()))
        return f"rank {rank}: {_describe(cause)}"
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _name(keys: Keys) -> str:
    return "/".join(map(str, keys))


class _PlainReader(FileSystemReader):
    """Reader of folders of shards that unpickles only the table of the tensors' parts, and reads only tensors."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> table.Metadata:
        """Reads the table; `torch.distributed.checkpoint` reads tensors with `weights_only=True` itself.

        Raises:
            UnpicklingError: a table with anything else than tensors and their places.
        """
        with (Path(self.path) / _METADATA_NAME).open("rb") as file:
            try:
                metadata: table.Metadata = _TableUnpickler(file).load()
            except Exception as error:  # a damaged pickle raises nearly any exception
                raise pickle.UnpicklingError(f"{_METADATA_NAME}: {error}") from error
        for name, entry in metadata.state_dict_metadata.items():
            if not isinstance(entry, table.TensorStorageMetadata):  # torch would unpickle it
                raise pickle.UnpicklingError(f"{name} is not a tensor")
        for part in (metadata.storage_data or {}).values():
            if Path(part.relative_path).name != part.relative_path:
                raise pickle.UnpicklingError(f"{part.relative_path} is outside of the folder")
        metadata.storage_meta = None
        return metadata


class _TableUnpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        if module_name in _METADATA_MODULES and (
            global_name in table.__all__ or global_name in ("_StorageInfo", "_MEM_FORMAT_ENCODING")
        ):
            return super().find_class(module_name, global_name)
        if module_name == "torch" and isinstance(getattr(torch, global_name, None), torch.dtype):
            return getattr(torch, global_name)
        if (module_name, global_name) in (("torch", "Size"), ("torch.serialization", "_get_layout")):
            return super().find_class(module_name, global_name)
        if module_name.partition(".")[0] == "pathlib":  # of the folder that was written to
            return PurePosixPath
        raise pickle.UnpicklingError(f"it asks for {module_name}.{global_name}, and only tensors are admitted")
