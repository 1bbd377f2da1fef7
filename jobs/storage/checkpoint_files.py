"""CheckpointFiles: the files in `{storage_path}/{name}/checkpoints/`, on a disk or in an object store.

A file appears there whole or not at all. Which of them count is for `jobs.storage.checkpoint_store` to say.
"""

import fcntl
import shutil
import uuid
from collections.abc import Callable, Collection
from pathlib import Path

import pyarrow.fs

from datamodules.storage.atomic_write import write_atomically
from jobs.storage.run_folder import RunFolder

FOLDER = "checkpoints"
DAMAGED_SUFFIX = ".damaged"  # what a checkpoint that was met damaged is renamed to
_CHUNK = 2**24


class CheckpointFiles:
    """Writes, fetches, renames and removes files by their names in the folder.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._folder = f"{run.path}/{FOLDER}"
        self.address = f"{run.address}/{FOLDER}"

    def create_folder(self) -> None:
        """Make the folder."""
        self._run.filesystem.create_dir(self._folder)

    def require_folder(self) -> None:
        """Be sure that the folder is there; an object store has none.

        Raises:
            FileNotFoundError: It is not.
        """
        if self._run.is_local and not Path(self._folder).is_dir():
            raise FileNotFoundError(f"storage_path: the run's folder {self._folder} is not there (any more)")

    def path(self, name: str) -> str:
        """The path of a file on the run's file system."""
        return f"{self._folder}/{name}"

    def write(self, write: Callable[[Path], object], name: str) -> int:
        """Write a file, aside and renamed; on an object store by way of a file of this node.

        Args:
            write: Writes it to a path that it is given.
            name: Of the file.

        Returns:
            Its size in bytes.

        Raises:
            OSError: It could not be written.
        """
        if self._run.is_local:
            with write_atomically(Path(self.path(name))) as aside:
                write(aside)
                size = aside.stat().st_size
            return size
        local = self._copies() / f"{uuid.uuid4().hex}.partial"
        try:
            write(local)
            with local.open("rb") as file, self._run.filesystem.open_output_stream(self.path(name)) as stream:
                shutil.copyfileobj(file, stream, _CHUNK)
            return local.stat().st_size
        finally:
            local.unlink(missing_ok=True)

    def fetch(self, name: str, size: int, written: float) -> Path:
        """A path on this node: the file itself, or a copy of an object, got once for all processes of the node.

        Args:
            name: Of the file.
            size: What a copy must have to be taken, in bytes.
            written: When the object was written, which tells it from an earlier one of this name.

        Raises:
            OSError: An object cannot be read.
        """
        if self._run.is_local:
            return Path(self.path(name))
        folder = self._copies()
        target = folder / f"{name}-{written}"
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.is_file() or target.stat().st_size != size:
                with (
                    write_atomically(target) as aside,
                    self._run.filesystem.open_input_stream(self.path(name)) as stream,
                    aside.open("wb") as file,
                ):
                    shutil.copyfileobj(stream, file, _CHUNK)
        return target

    def set_aside(self, name: str) -> None:
        """Rename a damaged file, for whoever wants to look; one that is missing or cannot be touched stays."""
        try:
            self._run.filesystem.move(self.path(name), self.path(name) + DAMAGED_SUFFIX)
        except OSError:
            return

    def remove(self, name: str) -> None:
        """Remove a file, if that can be done."""
        try:
            self._run.filesystem.delete_file(self.path(name))
        except OSError:
            return  # gone, or for the next start to remove

    def remove_others(self, named: Collection[str]) -> list[str]:
        """Remove all files but these and the damaged ones, and this node's copies.

        Returns:
            The names of the files that were removed, sorted.
        """
        selector = pyarrow.fs.FileSelector(self._folder, allow_not_found=True)
        found = [each.base_name for each in self._run.filesystem.get_file_info(selector) if each.is_file]
        others = sorted(name for name in found if name not in named and not name.endswith(DAMAGED_SUFFIX))
        for name in others:
            self.remove(name)
        if not self._run.is_local:
            shutil.rmtree(self._copies(), ignore_errors=True)
        return others

    def _copies(self) -> Path:
        """This node's folder for copies of objects of this run."""
        folder = self._run.on_this_node() / "copies"
        folder.mkdir(exist_ok=True)
        return folder
