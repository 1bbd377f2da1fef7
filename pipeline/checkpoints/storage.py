"""Storage: protocol for the files of a run's folder, on a disk or in an object store.

Names are relative to the run's folder, with `/` between folder and file. Writes are atomic.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from datamodules.storage.atomic_write import PARTIAL_SUFFIX, sync_folder, write_atomically


class StoredFile(NamedTuple):
    """A file in a listing.

    Attributes:
        name: name within its folder.
        bytes: size in bytes.
        modified: modification time, in seconds since 1970.
    """

    name: str
    bytes: int
    modified: float


class Storage(Protocol):
    """Access to the files of a run's folder.

    Attributes:
        address: path or URI of the folder.
        is_local: whether the folder is on a mounted file system, where files are read in place and links are free.
    """

    address: str
    is_local: bool

    def create_folder(self, folder: str = "") -> None:
        """Creates the run's folder, or one in it. No other method creates it, so that a lost mount is an error."""
        ...

    def files(self, folder: str) -> list[StoredFile]:
        """Lists the files of a folder.

        Raises:
            OSError: the storage cannot be reached; FileNotFoundError if a folder on a disk does not exist.
        """
        ...

    def folders(self, folder: str) -> list[str]:
        """Lists the names of the folders in a folder; none if it does not exist."""
        ...

    def read(self, name: str) -> bytes | None:
        """Reads a small file; None if it does not exist.

        Raises:
            OSError: the storage cannot be reached.
        """
        ...

    def write(self, name: str, write: Callable[[Path], object]) -> int:
        """Writes or replaces a file atomically.

        Args:
            name: name of the file; its folder must exist.
            write: function that writes the content to the given local path.

        Returns:
            The size in bytes.

        Raises:
            OSError: the file cannot be written.
        """
        ...

    def begin_folder(self, name: str) -> Path:
        """Returns the local path to which this process writes its files of a new folder: there, or to be uploaded.

        Raises:
            OSError: it cannot be created.
        """
        ...

    def upload(self, name: str, prefix: str) -> None:
        """Stores those files of a new folder whose names begin so, which this process has written.

        Raises:
            OSError: they cannot be written.
        """
        ...

    def fetch(self, name: str) -> Path:
        """Returns a local path: the file or folder itself, or a copy of the objects, made once per node.

        Raises:
            OSError: the file cannot be read.
        """
        ...

    def link(self, name: str, alias: str) -> None:
        """Gives a file or folder a second name, by a symbolic link, a hard link or a copy, as the storage supports.

        Raises:
            OSError: none of them can be made.
        """
        ...

    def rename(self, name: str, new: str) -> None:
        """Renames a file or folder; errors are ignored."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file, or a folder, its own files before those in other folders; errors are ignored."""
        ...

    def remove_leftovers(self, folder: str) -> list[str]:
        """Removes partial files of killed writers from a folder, to which nothing may be writing.

        Returns:
            The names of the removed files.
        """
        ...

    def node_folder(self) -> Path:
        """Returns the run's folder itself, or a local folder for the uploads and downloads of an object store."""
        ...


class LocalStorage:
    """Storage in a folder of a local or shared file system.

    Args:
        folder: the run's folder.
        address: the folder's name in messages; default: its path.
    """

    is_local = True

    def __init__(self, folder: Path, address: str = "") -> None:
        self.address = address or str(folder)
        self._folder = folder

    def create_folder(self, folder: str = "") -> None:
        """As `Storage.create_folder`."""
        (self._folder / folder).mkdir(parents=True, exist_ok=True)

    def files(self, folder: str) -> list[StoredFile]:
        """As `Storage.files`."""
        folder_path = self._folder / folder
        if not folder_path.is_dir():
            raise FileNotFoundError(f"the run's folder {folder_path} is not there (any more)")
        files = []
        for path in folder_path.iterdir():
            with suppress(FileNotFoundError):  # renamed by another rank meanwhile
                if path.is_file():
                    files.append(StoredFile(path.name, path.stat().st_size, path.stat().st_mtime))
        return files

    def folders(self, folder: str) -> list[str]:
        """As `Storage.folders`."""
        path = self._folder / folder
        return [each.name for each in path.iterdir() if each.is_dir()] if path.is_dir() else []

    def read(self, name: str) -> bytes | None:
        """As `Storage.read`."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, write: Callable[[Path], object]) -> int:
        """As `Storage.write`: to a temporary file, then fsync and rename."""
        with write_atomically(self._folder / name) as temporary:
            write(temporary)
            return temporary.stat().st_size

    def begin_folder(self, name: str) -> Path:
        """As `Storage.begin_folder`: the folder itself; in a run's folder that is lost, an error."""
        path = self._folder / name
        path.parent.mkdir(exist_ok=True)
        path.mkdir(exist_ok=True)
        return path

    def upload(self, name: str, prefix: str) -> None:
        """As `Storage.upload`: the files are there already."""

    def fetch(self, name: str) -> Path:
        """Returns the path of the file itself."""
        return self._folder / name

    def link(self, name: str, alias: str) -> None:
        """As `Storage.link`; a symbolic link is relative, so that a run's folder can be moved."""
        target, alias_path = self._folder / name, self._folder / alias
        relative = os.path.relpath(target, alias_path.parent)
        if alias_path.is_symlink() and str(alias_path.readlink()) == relative:
            return
        temporary = alias_path.with_name(f".{alias_path.name}.link{PARTIAL_SUFFIX}")
        methods: list[Callable[[], object]] = [
            lambda: temporary.symlink_to(relative),
            lambda: temporary.hardlink_to(target),  # file systems without symbolic links
            lambda: (shutil.copytree if target.is_dir() else shutil.copyfile)(target, temporary),  # without links
        ]
        for method in methods:
            temporary.unlink(missing_ok=True)
            try:
                method()
                break
            except OSError:
                if method is methods[-1]:
                    temporary.unlink(missing_ok=True)
                    raise
        temporary.replace(alias_path)
        temporary.unlink(missing_ok=True)  # rename is a no-op if both are hard links to one file
        sync_folder(alias_path.parent)

    def rename(self, name: str, new: str) -> None:
        """As `Storage.rename`."""
        with suppress(OSError):
            (self._folder / name).replace(self._folder / new)

    def remove(self, name: str) -> None:
        """As `Storage.remove`."""
        path = self._folder / name
        with suppress(OSError):
            if path.is_symlink() or not path.is_dir():
                path.unlink()
                return
            for file in path.iterdir():
                if file.is_file():
                    file.unlink()
            shutil.rmtree(path)

    def remove_leftovers(self, folder: str) -> list[str]:
        """As `Storage.remove_leftovers`."""
        leftovers = sorted(path.name for path in (self._folder / folder).glob(f".*{PARTIAL_SUFFIX}"))
        for name in leftovers:
            self.remove(f"{folder}/{name}")
        return leftovers

    def node_folder(self) -> Path:
        """Returns the folder itself."""
        return self._folder


def open_storage(address: str) -> Storage:
    """Opens the storage of a run's folder.

    Args:
        address: a path, or a URI such as s3://bucket/runs/name.
    """
    if "://" not in address:
        return LocalStorage(Path(address))
    if address.startswith("file://"):
        return LocalStorage(Path(address.removeprefix("file://")), address)
    from pipeline.checkpoints.object_storage import ObjectStorage  # imports pyarrow's file systems

    return ObjectStorage(address)
