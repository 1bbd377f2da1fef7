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

from datamodules.storage.atomic_write import write_atomically, write_folder_atomically
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
        found = [each for each in self._list(folder) if each.is_file]
        return [StoredFile(each.base_name, each.size, each.mtime_ns / 1e9) for each in found]

    def folders(self, folder: str) -> list[str]:
        """As `Storage.folders`."""
        return [each.base_name for each in self._list(folder) if not each.is_file]

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

    def begin_folder(self, name: str) -> Path:
        """As `Storage.begin_folder`: a folder on this node, that its processes share."""
        path = self._copies_folder() / name.replace("/", "-")
        path.mkdir(exist_ok=True)
        return path

    def upload(self, name: str, prefix: str) -> None:
        """As `Storage.upload`; the local files are removed."""
        for path in sorted(self.begin_folder(name).glob(f"{prefix}*")):
            with (
                path.open("rb") as file,
                self._filesystem.open_output_stream(f"{self._root}/{name}/{path.name}") as stream,
            ):
                shutil.copyfileobj(file, stream, _CHUNK_BYTES)
            path.unlink()

    def fetch(self, name: str) -> Path:
        """As `Storage.fetch`: a copy, named by modification times and size of the objects so that versions differ."""
        infos = self._objects(name)
        if not infos:
            raise FileNotFoundError(f"{self.address}/{name} is not there")
        folder = self._copies_folder()
        newest, size = max(each.mtime_ns for each in infos), sum(each.size for each in infos)
        target = folder / f"{name.replace('/', '-')}-{newest}-{size}"
        with file_lock(folder / "lock"):
            if not target.exists() and infos[0].path == f"{self._root}/{name}":
                with write_atomically(target) as temporary:
                    self._copy_here(infos[0].path, temporary)
            elif not target.exists():
                with write_folder_atomically(target) as temporary:
                    for each in infos:
                        self._copy_here(each.path, temporary / each.path.removeprefix(f"{self._root}/{name}/"))
        return target

    def _objects(self, name: str) -> list[pyarrow.fs.FileInfo]:
        """The object of this name, or those below it, in other folders first."""
        [info] = self._filesystem.get_file_info([f"{self._root}/{name}"])
        found = [info] if info.is_file else self._list(name, recursive=True)
        return sorted((each for each in found if each.is_file), key=lambda each: -each.path.count("/"))

    def _list(self, folder: str, recursive: bool = False) -> list[pyarrow.fs.FileInfo]:
        selector = pyarrow.fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True, recursive=recursive)
        return list(self._filesystem.get_file_info(selector))

    def _copy_here(self, source: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._filesystem.open_input_stream(source) as stream, path.open("wb") as file:
            shutil.copyfileobj(stream, file, _CHUNK_BYTES)

    def link(self, name: str, alias: str) -> None:
        """As `Storage.link`, by copies within the store, in place of all that was there."""
        earlier = [each.path for each in self._objects(alias)]
        copies = {
            each.path: f"{self._root}/{alias}{each.path.removeprefix(f'{self._root}/{name}')}"
            for each in self._objects(name)
        }
        for source, copy in copies.items():
            self._filesystem.copy_file(source, copy)
        for path in earlier:
            if path not in copies.values():
                self._filesystem.delete_file(path)

    def rename(self, name: str, new: str) -> None:
        """As `Storage.rename`."""
        with suppress(OSError):
            self._filesystem.move(f"{self._root}/{name}", f"{self._root}/{new}")

    def remove(self, name: str) -> None:
        """As `Storage.remove`."""
        with suppress(OSError):
            for each in reversed(self._objects(name)):
                self._filesystem.delete_file(each.path)
            [info] = self._filesystem.get_file_info([f"{self._root}/{name}"])
            if info.type == pyarrow.fs.FileType.Directory:  # pyarrow marks folders that it emptied
                self._filesystem.delete_dir(info.path)

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
