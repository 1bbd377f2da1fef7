"""ObjectStorage: a run's folder in an object store (s3://, gs://), through pyarrow's file systems as in Ray Train."""

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pyarrow.fs

from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.file_lock import file_lock
from pipeline.checkpoints.storage import StoredFile

_CHUNK_BYTES = 2**24


class ObjectStorage:
    """Storage below a prefix of a bucket; objects appear when their upload completes, so kills leave no partial files.

    Args:
        address: URI of the run's folder.
    """

    is_local = False

    def __init__(self, address: str) -> None:
        self.address = address
        self._filesystem, self._root = pyarrow.fs.FileSystem.from_uri(address)

    def create_folder(self, folder: str = "") -> None:
        """As `Storage.create_folder`; object stores need only the bucket to exist."""
        self._filesystem.create_dir(f"{self._root}/{folder}")

    def files(self, folder: str) -> list[StoredFile]:
        """As `Storage.files`."""
        selector = pyarrow.fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True)
        found = self._filesystem.get_file_info(selector)
        return [StoredFile(each.base_name, each.size, each.mtime_ns / 1e9) for each in found if each.is_file]

    def read(self, name: str) -> bytes | None:
        """As `Storage.read`."""
        try:
            with self._filesystem.open_input_stream(f"{self._root}/{name}") as stream:
                return bytes(stream.read())
        except FileNotFoundError:
            return None

    def write(self, name: str, write: Callable[[Path], object]) -> int:
        """As `Storage.write`, through a temporary file on this node."""
        local = self._copies_folder() / f"{uuid.uuid4().hex}.partial"
        try:
            write(local)
            with local.open("rb") as file, self._filesystem.open_output_stream(f"{self._root}/{name}") as stream:
                shutil.copyfileobj(file, stream, _CHUNK_BYTES)
            return local.stat().st_size
        finally:
            local.unlink(missing_ok=True)

    def fetch(self, name: str) -> Path:
        """As `Storage.fetch`: a copy, named by the object's modification time and size so that versions differ."""
        [info] = self._filesystem.get_file_info([f"{self._root}/{name}"])
        if not info.is_file:
            raise FileNotFoundError(f"{self.address}/{name} is not there")
        folder = self._copies_folder()
        target = folder / f"{name.replace('/', '-')}-{info.mtime_ns}-{info.size}"
        with file_lock(folder / "lock"):
            if not target.is_file():
                with (
                    write_atomically(target) as temporary,
                    self._filesystem.open_input_stream(info.path) as stream,
                    temporary.open("wb") as file,
                ):
                    shutil.copyfileobj(stream, file, _CHUNK_BYTES)
        return target

    def link(self, name: str, alias: str) -> None:
        """As `Storage.link`, by a copy within the store."""
        self._filesystem.copy_file(f"{self._root}/{name}", f"{self._root}/{alias}")

    def rename(self, name: str, new: str) -> None:
        """As `Storage.rename`."""
        with suppress(OSError):
            self._filesystem.move(f"{self._root}/{name}", f"{self._root}/{new}")

    def remove(self, name: str) -> None:
        """As `Storage.remove`."""
        with suppress(OSError):
            self._filesystem.delete_file(f"{self._root}/{name}")

    def remove_leftovers(self, folder: str) -> list[str]:
        """Removes this node's copies of objects; the store itself has no partial files."""
        shutil.rmtree(self._copies_folder(), ignore_errors=True)
        return []

    def node_folder(self) -> Path:
        """As `Storage.node_folder`: a temporary folder that only this user can read."""
        digest = hashlib.sha256(self.address.encode()).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"arp-run-{os.getuid()}-{digest}"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

    def _copies_folder(self) -> Path:
        folder = self.node_folder() / "copies"
        folder.mkdir(exist_ok=True)
        return folder
