"""Checkpoint IO plugins for Lightning: write a checkpoint atomically to a file, or to a run's CheckpointStore."""

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from datamodules.storage.atomic_write import write_atomically
from lightning_modules.weights.sharded_checkpoint import (
    CONTENT_NAME,
    is_sharded_checkpoint,
    read_whole_checkpoint,
    with_shards_folder,
)
from pipeline.checkpoints.checkpoint_record import CheckpointRecord
from pipeline.checkpoints.checkpoint_store import CheckpointStore
from pipeline.checkpoints.sharded_saving import save_shards
from pipeline.checkpoints.storage import LocalStorage
from pipeline.cli.terminal import print_text


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoint IO that writes local checkpoints atomically: to a file in the same folder, then fsync and rename.

    Lightning's own plugin writes to the system's temporary folder and moves the file: between file systems that is a
    copy, and a kill or a full disk leaves half a checkpoint under the final name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Saves a checkpoint whole or not at all.

        Raises:
            OSError: the checkpoint cannot be written.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(Path(path)) as temporary:
            _torch_save(checkpoint)(temporary)

    def save_sharded(self, content: dict[str, Any], shards: Mapping[str, Tensor], path: Any) -> None:
        """Saves a sharded checkpoint as a folder of this name; a collective.

        Raises:
            OSError: it cannot be written.
        """
        folder = Path(path)
        storage = LocalStorage(folder.parent)

        def save_content(name: str) -> None:
            write = _torch_save(with_shards_folder(content, name))
            storage.write(f"{folder.name}/{CONTENT_NAME}", write)

        folder.parent.mkdir(parents=True, exist_ok=True)
        save_shards(storage, folder.name, shards, save_content)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Loads a checkpoint, also a sharded one, with whole tensors, for strategies that do not shard.

        Raises:
            FileNotFoundError: no such file.
            ValueError: a sharded checkpoint that is damaged.
        """
        if is_sharded_checkpoint(path):
            whole: dict[str, Any] = read_whole_checkpoint(path, f"ckpt_path={str(path)!r}")
            return whole
        return super().load_checkpoint(path, *args, **kwargs)


class StoreCheckpointIO(TorchCheckpointIO):
    """Checkpoint IO that saves the gathered checkpoint to a CheckpointStore.

    Errors are kept, not raised: rank 0 must still reach the barrier at which the other ranks wait.

    Args:
        store: the run's checkpoint store.
        step: number of optimizer steps done.
        metrics: metrics measured with these weights.

    Attributes:
        failure: the error of the write on rank 0; None if it succeeded.
    """

    def __init__(self, store: CheckpointStore, step: int, metrics: dict[str, Any]) -> None:
        super().__init__()
        self._store = store
        self._step = step
        self._metrics = metrics
        self.failure: OSError | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Saves the checkpoint to the store, which chooses the path; called on rank 0."""
        try:
            self._store.save(_torch_save(checkpoint), self._step, self._metrics)
        except OSError as error:
            self._keep_failure(error)

    def save_sharded(self, content: dict[str, Any], shards: Mapping[str, Tensor], path: Any) -> None:
        """Saves a sharded checkpoint to the store; a collective."""

        def save_content(name: str) -> None:
            write = _torch_save(with_shards_folder(content, name))
            self._store.save(write, self._step, self._metrics, shards=name)

        try:
            save_shards(self._store.storage, CheckpointRecord(self._step, 0, sharded=True).name, shards, save_content)
        except OSError as error:
            self._keep_failure(error)

    def _keep_failure(self, error: OSError) -> None:
        self.failure = error
        rank_zero_only(print_text)(
            f"warning: the checkpoint of step {self._step} cannot be written ({error}); training goes on, the "
            "newest one that was stays, and the next is tried when it is due",
            sys.stderr,
        )


def _torch_save(checkpoint: dict[str, Any]) -> Callable[[Path], None]:
    """Returns a function that saves to a path; turns the RuntimeError of torch's writer on a full disk into OSError."""

    def write(path: Path) -> None:
        try:
            torch.save(checkpoint, path)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            free = shutil.disk_usage(path.parent).free / 2**20
            raise OSError(f"{reason}; {free:.0f} MiB are free in {path.parent}") from error

    return write
