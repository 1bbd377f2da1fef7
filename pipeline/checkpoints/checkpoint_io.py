"""Where Lightning's checkpoints are written to: a file that appears whole, or a run's CheckpointStore."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from datamodules.storage.atomic_write import write_atomically
from pipeline.checkpoints.checkpoint_store import CheckpointStore
from pipeline.cli.terminal import say


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes local checkpoints beside their place, syncs and renames them.

    Lightning's own writes into the system's folder for temporary files and moves from there: between two file systems
    that is a copy, and a kill within it, or a disk that is full, leaves half a checkpoint under the final name.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Saves a checkpoint whole or not at all.

        Raises:
            OSError: it cannot be written.
        """
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(Path(path)) as temporary:
            _torch_save(checkpoint)(temporary)


class StoreCheckpointIO(TorchCheckpointIO):
    """Writes to a store what Lightning has gathered. An error must not leave rank 0's barrier to the others.

    Args:
        store: of the run.
        step: optimizer steps done.
        metrics: what was measured with these weights.

    Attributes:
        failure: why it could not be written, on rank 0.
    """

    def __init__(self, store: CheckpointStore, step: int, metrics: dict[str, Any]) -> None:
        super().__init__()
        self._store = store
        self._step = step
        self._metrics = metrics
        self.failure: OSError | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Called on rank 0; the store knows the path."""
        try:
            self._store.save(_torch_save(checkpoint), self._step, self._metrics)
        except OSError as error:
            self.failure = error
            say(
                f"warning: the checkpoint of step {self._step} cannot be written ({error}); training goes on, the "
                "newest one that was stays, and the next is tried when it is due",
                sys.stderr,
            )


def _torch_save(checkpoint: dict[str, Any]) -> Callable[[Path], None]:
    """Writes the checkpoint to a path, with an OSError where torch's own writer raises another for a full disk."""

    def write(path: Path) -> None:
        try:
            torch.save(checkpoint, path)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            free = shutil.disk_usage(path.parent).free / 2**20
            raise OSError(f"{reason}; {free:.0f} MiB are free in {path.parent}") from error

    return write
