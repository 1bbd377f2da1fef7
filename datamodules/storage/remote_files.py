"""Reads a dataset from afar by byte range, through fsspec: http(s)://, s3://, gs://, memory:// and what else it knows.

Every read is tried again, after waits that grow and are drawn at random, until it gives the right number of bytes of
the right content; a server that stays down costs bounded time and one sentence.
"""

import hashlib
import os
import random
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fsspec.asyn import sync
from fsspec.core import url_to_fs

from datamodules.storage.disk_cache import ByteCache
from datamodules.storage.errors import (
    ShardFormatError,
    ShardUnavailableError,
    ShortReadError,
    absent_package,
    access_advice,
    advice_after_tries,
    cause_of,
    describe_read_error,
    is_final,
    is_missing,
)
from datamodules.storage.prefetch import ByteRange

_CHUNK_BYTES = 2**24
_inherited: list[Any] = []  # file systems of the parent process: kept, because closing them would wait for its threads

Result = TypeVar("Result")


class RetryPolicy(NamedTuple):
    """How long a remote read is tried.

    Attributes:
        tries: In all, at least 1.
        first_wait_s: Before the second try; doubled before each further one. The wait is drawn between half of this
            and all of it, so that the ranks of a job do not come back all at once.
        longest_wait_s: Bound on the doubling.
        timeout_s: Of one try, for asynchronous file systems (http, s3, gs): one that stalls is given up.
    """

    tries: int = 7
    first_wait_s: float = 0.25
    longest_wait_s: float = 8.0
    timeout_s: float = 30.0


def split_root(root: str | Path) -> str | Path:
    """The root of a dataset: a URL as str, without a slash at the end; a local folder, also of a file:// URL, as Path.

    What `Path` made of a URL (`s3:/bucket/data`) is taken for the URL.
    """
    text = str(root)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", text)  # two letters at least: C:/ is a folder
    if found is None or Path(text).exists():
        return Path(root)
    rest = text[found.end() :]
    return f"{found[1]}://{rest.removeprefix('/')}".rstrip("/")


@dataclass
class RemoteFiles:
    """The files of one remote dataset. Picklable; safe in threads and after a fork: each process connects anew.

    Attributes:
        root: URL of the dataset's folder.
        patience: How often and how long to try.
        cache: Videos kept on a local disk, or None.
    """

    root: str
    patience: RetryPolicy = field(default_factory=RetryPolicy)
    cache: ByteCache | None = None

    def __post_init__(self) -> None:
        if self.patience.tries < 1:
            raise ValueError(f"tries={self.patience.tries}: must be at least 1")
        self._forget()

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the connection."""
        return type(self), (self.root, self.patience, self.cache)

    def _forget(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._connection: tuple[Any, str] | None = None

    def read(self, shard: str, offset: int, size: int, sha256: str) -> bytes:
        """Bytes [offset, offset + size) of a shard, whose digest is `sha256`, from the cache or from afar.

        Raises:
            ShardFormatError: There is no such shard, or it holds other bytes there.
            ShardUnavailableError: All tries failed.
        """
        data = self.cache.get(sha256) if self.cache else None
        if data is None:
            data = self.read_range(shard, offset, size, sha256)
            if self.cache:
                self.cache.put(sha256, data)
        return data

    def read_place(self, place: ByteRange) -> bytes:
        """The bytes of one video; raises as `read`."""
        return self.read(place.shard, place.offset, place.size, place.sha256)

    def read_range(self, name: str, offset: int, size: int, sha256: str | None = None) -> bytes:
        """Bytes [offset, offset + size) of a file, not from the cache; raises as `read`."""

        def once() -> bytes:
            data: bytes = self._call("cat_file", name, start=offset, end=offset + size) if size else b""
            if len(data) > size:
                raise ShardFormatError(f"{self.root}: the server ignores byte ranges; use one that answers them")
            if len(data) < size:
                raise ShortReadError(f"{len(data)} of {size} bytes came")
            if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
                raise ShortReadError("the bytes are not those of the index; was the shard replaced?")
            return data

        return self._persist(once, f"{self.root}/{name}: {size} bytes at offset {offset}")

    def size(self, name: str) -> int:
        """Size of a file in bytes; raises as `read`."""

        def once() -> int:
            size = self._call("info", name).get("size")
            if size is None:
                raise ShardFormatError(f"{self.root}/{name}: the server does not say its size; use one that does")
            return int(size)

        return self._persist(once, f"{self.root}/{name}: its size")

    def read_file(self, name: str) -> bytes:
        """A whole small file; raises as `read`."""
        return self.read_range(name, 0, self.size(name))

    def fetch(self, name: str, folder: Path) -> Path:
        """Copy a whole file into a folder, range by range; returns its path there; raises as `read`."""
        size = self.size(name)
        path = folder / name
        with path.open("wb") as file:
            for offset in range(0, size, _CHUNK_BYTES):
                file.write(self.read_range(name, offset, min(_CHUNK_BYTES, size - offset)))
        return path

    def _persist(self, once: Callable[[], Result], what: str) -> Result:
        """Call until it works; what another try cannot mend ends at once."""
        began = time.monotonic()
        wait = self.patience.first_wait_s
        for number in range(1, self.patience.tries + 1):
            try:
                return once()
            except ShardFormatError:
                raise
            except ImportError as caught:
                raise absent_package(self.root, caught) from None
            except Exception as caught:  # each file system raises its own
                error = cause_of(caught)
                if is_missing(error):
                    raise ShardFormatError(
                        f"{what}: there is no such file; copy it there or correct the root"
                    ) from None
                if is_final(error):
                    raise ShardUnavailableError(
                        f"{what} cannot be read ({describe_read_error(error)}); {access_advice(self.root, error)}"
                    ) from error
                if number == self.patience.tries:
                    raise ShardUnavailableError(
                        f"{what} could not be read in {number} tries over {time.monotonic() - began:.0f} s, the last "
                        f"ended with {describe_read_error(error)}; {advice_after_tries(self.root)}, then start again"
                    ) from error
            time.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, self.patience.longest_wait_s)
        raise AssertionError("the last try returns or raises")

    def _call(self, method: str, name: str, **options: Any) -> Any:
        """A method of the file system, in bounded time where that is asynchronous."""
        filesystem, root = self._connect()
        path = f"{root}/{name}"
        if filesystem.async_impl:
            call = getattr(filesystem, f"_{method}")
            return sync(filesystem.loop, call, path, timeout=self.patience.timeout_s, **options)
        return getattr(filesystem, method)(path, **options)

    def _connect(self) -> tuple[Any, str]:
        if self._process != os.getpid():
            # fsspec's event loop is a thread of the parent, and its file systems refuse to be used after a fork.
            _inherited.append(self._connection)
            self._forget()
        with self._lock:
            if self._connection is None:
                # No listings: `info` must see a file that was replaced. No shared instance: it may be the parent's.
                filesystem, root = url_to_fs(self.root, skip_instance_cache=True, use_listings_cache=False)
                self._connection = filesystem, root.rstrip("/")
            return self._connection
