"""Saving of sharded checkpoints: every rank writes its shards, then rank 0 the content that makes them a checkpoint."""

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import torch.distributed as dist
from torch import Tensor

from lightning_modules.weights.sharded_checkpoint import SHARDS_PREFIX, write_shards
from pipeline.checkpoints.storage import Storage

_SHARD_FILES = "__{rank}_"  # how torch.distributed.checkpoint calls the files of a rank
_METADATA_FILE = ".metadata"


def save_shards(
    storage: Storage, checkpoint: str, shards: Mapping[str, Tensor], save_content: Callable[[str], object]
) -> None:
    """Writes the shards of all ranks to a new folder in that of a checkpoint, and then its content; a collective.

    Args:
        storage: storage of the run's folder, the same one on all ranks.
        checkpoint: name of the checkpoint's folder.
        shards: the sharded tensors, of which each rank has its part.
        save_content: saves the content of the checkpoint, and gets the name of the folder of shards; called on rank 0.

    Raises:
        OSError: on all ranks, if one could not write its shards; on rank 0, if it could not write the content. Then
            the shards are removed.
    """
    is_first = dist.get_rank() == 0
    folder = _from_rank_zero(f"{SHARDS_PREFIX}{uuid.uuid4().hex[:12]}")
    name = f"{checkpoint}/{folder}"
    try:
        local: list[Path] = []
        _on_all_ranks(lambda: local.append(storage.begin_folder(name)))
        write_shards(local[0], shards)
        _on_all_ranks(lambda: _upload(storage, name))
        if is_first:
            save_content(folder)
    except BaseException:
        if is_first:
            storage.remove(name)
            if not any(True for _ in storage.folders(checkpoint)):
                storage.remove(checkpoint)
        raise


def _upload(storage: Storage, name: str) -> None:
    storage.upload(name, _SHARD_FILES.format(rank=dist.get_rank()))
    if dist.get_rank() == 0:
        storage.upload(name, _METADATA_FILE)


def _from_rank_zero(value: str) -> str:
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def _on_all_ranks(function: Callable[[], object]) -> None:
    """Calls a function on all ranks; OSError on all of them, if it raises one on any."""
    failure = ""
    try:
        function()
    except OSError as error:
        failure = f"rank {dist.get_rank()}: {error}"
    failures: list[str] = [""] * dist.get_world_size()
    dist.all_gather_object(failures, failure)
    for failure in failures:
        if failure:
            raise OSError(failure)
