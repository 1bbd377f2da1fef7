"""Storage: the files of a run's folder, on a disk or in an object store, behind one small protocol.

Names are relative to the run's folder, with `/` between folder and file. A file appears whole or not at all.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

from datamodules.storage.atomic_write import PARTIAL_SUFFIX, sync_folder, write_atomically


class StoredFile(NamedTuple):
    """A file of a listing.

    Attributes:
        name: within its folder.
        bytes: its size.
        modified: seconds since the epoch.
    """

    name: str
    bytes: int
    modified: float


class Storage(Protocol):
    """A run's folder.

    Attributes:
        address: of the folder: a path or a URI.
        is_local: whether it is a file system of this node, where files are read in place and links cost nothing.
    """

    address: str
    is_local: bool

    def create_folder(self, folder: str = "") -> None:
        """Makes the run's folder, or one in it; nothing else makes one: a mount that is lost must not be replaced."""
        ...

    def files(self, folder: str) -> list[StoredFile]:
        """The files of a folder.

        Raises:
            OSError: the storage cannot be reached; FileNotFoundError where a folder on a disk is not there.
        """
        ...

    def read(self, name: str) -> bytes | None:
        """A small file; None where there is none.

        Raises:
            OSError: the storage cannot be reached.
        """
        ...

    def write(self, name: str, write: Callable[[Path], object]) -> int:
        """Writes or replaces a file, whole or not at all.

        Args:
            name: of the file; its folder exists.
            write: writes the content to a path of this node that it is given.

        Returns:
            The size in bytes.

        Raises:
            OSError: it cannot be written.
        """
        ...

    def fetch(self, name: str) -> Path:
        """A path on this node: the file itself, or a copy of an object, made once for all processes of the node.

        Raises:
            OSError: it cannot be read.
        """
        ...

    def link(self, name: str, alias: str) -> None:
        """Gives a file a second name, as the storage can: by a symbolic link, a hard link or a copy.

        Raises:
            OSError: none of them can be made.
        """
        ...

    def rename(self, name: str, new: str) -> None:
        """Renames a file, if that can be done."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file, if that can be done; one that is not there is no error."""
        ...

    def remove_leftovers(self, folder: str) -> list[str]:
        """Removes what killed writers left in a folder; call it while nobody writes there.

        Returns:
            The names of the files.
        """
        ...

    def node_folder(self) -> Path:
        """The run's folder itself, or a folder of this node for what goes to an object store and comes from there."""
        ...


class LocalStorage:
    """A folder on a disk of this node, or on a file system that nodes share.

    Args:
        folder: of the run.
        address: what messages call it; default: the folder.
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
        path = self._folder / folder
        if not path.is_dir():
            raise FileNotFoundError(f"the run's folder {path} is not there (any more)")
        found = []
        for each in path.iterdir():
            with suppress(FileNotFoundError):  # renamed by another rank just now
                if each.is_file():
                    found.append(StoredFile(each.name, each.stat().st_size, each.stat().st_mtime))
        return found

    def read(self, name: str) -> bytes | None:
        """As `Storage.read`."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, name: str, write: Callable[[Path], object]) -> int:
        """As `Storage.write`: beside its place, synced and renamed."""
        with write_atomically(self._folder / name) as aside:
            write(aside)
            return aside.stat().st_size

    def fetch(self, name: str) -> Path:
        """The file itself."""
        return self._folder / name

    def link(self, name: str, alias: str) -> None:
        """As `Storage.link`; a symbolic link is relative, so that a run's folder can be moved."""
        target, place = self._folder / name, self._folder / alias
        relative = os.path.relpath(target, place.parent)
        if place.is_symlink() and str(place.readlink()) == relative:
            return
        aside = place.with_name(f".{place.name}.link{PARTIAL_SUFFIX}")
        ways: list[Callable[[], object]] = [
            lambda: aside.symlink_to(relative),
            lambda: aside.hardlink_to(target),  # file systems without symbolic links
            lambda: shutil.copyfile(target, aside),  # without any
        ]
        for way in ways:
            aside.unlink(missing_ok=True)
            try:
                way()
                break
            except OSError:
                if way is ways[-1]:
                    aside.unlink(missing_ok=True)
                    raise
        aside.replace(place)
        aside.unlink(missing_ok=True)  # it stays where both were links to one file
        sync_folder(place.parent)

    def rename(self, name: str, new: str) -> None:
        """As `Storage.rename`."""
        with suppress(OSError):
            (self._folder / name).replace(self._folder / new)

    def remove(self, name: str) -> None:
        """As `Storage.remove`."""
        with suppress(OSError):
            (self._folder / name).unlink()

    def remove_leftovers(self, folder: str) -> list[str]:
        """As `Storage.remove_leftovers`."""
        leftovers = sorted(path.name for path in (self._folder / folder).glob(f".*{PARTIAL_SUFFIX}"))
        for name in leftovers:
            self.remove(f"{folder}/{name}")
        return leftovers

    def node_folder(self) -> Path:
        """The folder itself."""
        return self._folder


def open_storage(address: str) -> Storage:
    """The storage of a run's folder.

    Args:
        address: a path, or a URI such as s3://bucket/runs/name.
    """
    if "://" not in address:
        return LocalStorage(Path(address))
    if address.startswith("file://"):
        return LocalStorage(Path(address.removeprefix("file://")), address)
    from pipeline.checkpoints.object_storage import ObjectStorage  # brings pyarrow's file systems

    return ObjectStorage(address)
