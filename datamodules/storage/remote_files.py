"""Remote files: byte ranges of a dataset through fsspec: http(s)://, s3://, gs://, hf://, memory:// and others.

Every read is retried, with exponential backoff and jitter, until it returns the right number of bytes of the right
content; if a server stays down, the read fails after a bounded time with one sentence.
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
    access_advice,
    cause_of,
    describe_read_error,
    is_final,
    is_missing,
    missing_package_error,
    retry_advice,
)
from datamodules.storage.prefetch import ByteRange

_CHUNK_BYTES = 2**24
_HUB = "hf://"  # the Hugging Face Hub, whose client repeats requests itself: six times, in about 25 s
_HUB_TRIES = 2
_inherited_connections: list[Any] = []  # the parent's file systems: closing them would wait for its threads

Result = TypeVar("Result")


class RetryPolicy(NamedTuple):
    """Retry policy of remote reads.

    Attributes:
        tries: Total number of tries, at least 1.
        first_wait_s: Wait before the second try, in seconds; doubled before each further one. The actual wait is random
            between half of this and all of it, so that the ranks of a job do not retry simultaneously.
        longest_wait_s: Maximum wait, in seconds.
        timeout_s: Timeout of one try, in seconds, for asynchronous file systems (http, s3, gs).
    """

    tries: int = 7
    first_wait_s: float = 0.25
    longest_wait_s: float = 8.0
    timeout_s: float = 30.0


def split_root(root: str | Path) -> str | Path:
    """The root of a dataset: a URL as str without a trailing slash; a local folder, also of a file:// URL, as Path.

    A URL that `Path` collapsed (`s3:/bucket/data`) is restored.
    """
    text = str(root)
    if text.startswith("file://"):
        return Path(text.removeprefix("file://"))
    found = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):/", text)  # at least two letters: C:/ is a folder
    if found is None or Path(text).exists():
        return Path(root)
    rest = text[found.end() :]
    return f"{found[1]}://{rest.removeprefix('/')}".rstrip("/")


@dataclass
class RemoteFiles:
    """The files of one remote dataset. Picklable, thread-safe and fork-safe: each process connects on its own.

    Attributes:
        root: URL of the dataset's folder.
        retry_policy: Retry policy.
        cache: Disk cache of videos, or None.
    """

    root: str
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)
    cache: ByteCache | None = None

    def __post_init__(self) -> None:
        if self.retry_policy.tries < 1:
            raise ValueError(f"tries={self.retry_policy.tries}: must be at least 1")
        self._reset()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles everything but the connection."""
        return type(self), (self.root, self.retry_policy, self.cache)

    def _reset(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._connection: tuple[Any, str] | None = None

    def read(self, shard: str, offset: int, size: int, sha256: str) -> bytes:
        """Bytes [offset, offset + size) of a shard with the digest `sha256`, from the cache or remotely.

        Raises:
            ShardFormatError: There is no such shard, or it has other content there.
            ShardUnavailableError: All tries failed.
        """
        data = self.cache.get(sha256) if self.cache else None
        if data is None:
            data = self.read_range(shard, offset, size, sha256)
            if self.cache:
                self.cache.put(sha256, data)
        return data

    def read_byte_range(self, byte_range: ByteRange) -> bytes:
        """The bytes of one video; raises the errors of `read`."""
        return self.read(byte_range.shard, byte_range.offset, byte_range.size, byte_range.sha256)

    def read_range(self, name: str, offset: int, size: int, sha256: str | None = None) -> bytes:
        """Bytes [offset, offset + size) of a file, without the cache; raises the errors of `read`."""

        def read() -> bytes:
            data: bytes = self._call("cat_file", name, **self._range_options(offset, size)) if size else b""
            if len(data) > size:
                raise ShardFormatError(f"{self.root}: the server ignores byte ranges; use one that answers them")
            if len(data) < size:
                raise ShortReadError(f"{len(data)} of {size} bytes came")
            if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
                raise ShortReadError("the bytes are not those of the index; was the shard replaced?")
            return data

        return self._retry(read, f"{self.root}/{name}: {size} bytes at offset {offset}")

    def _range_options(self, offset: int, size: int) -> dict[str, Any]:
        """Options of `cat_file` for a range of bytes."""
        options: dict[str, Any] = {"start": offset, "end": offset + size}
        if self.root.startswith(_HUB):  # else it reads 5 MB ahead, which no later read takes
            options |= {"cache_type": "none", "size": offset + size}
        return options

    def size(self, name: str) -> int:
        """Size of a file in bytes; raises the errors of `read`."""

        def read() -> int:
            # Listings are cached by the hub's client, whatever is asked for: `info` must see a replaced file.
            size = self._call("info", name, **({"refresh": True} if self.root.startswith(_HUB) else {})).get("size")
            if size is None:
                raise ShardFormatError(f"{self.root}/{name}: the server does not say its size; use one that does")
            return int(size)

        return self._retry(read, f"{self.root}/{name}: its size")

    def read_file(self, name: str) -> bytes:
        """The content of a small file; raises the errors of `read`."""
        return self.read_range(name, 0, self.size(name))

    def fetch(self, name: str, folder: Path) -> Path:
        """Copies a file into a folder, range by range, and returns its path; raises the errors of `read`."""
        size = self.size(name)
        path = folder / name
        with path.open("wb") as file:
            for offset in range(0, size, _CHUNK_BYTES):
                file.write(self.read_range(name, offset, min(_CHUNK_BYTES, size - offset)))
        return path

    def _retry(self, read: Callable[[], Result], description: str) -> Result:
        """Calls a function until it succeeds; errors that a retry cannot help are raised at once."""
        started = time.monotonic()
        wait, tries = self.retry_policy.first_wait_s, self.retry_policy.tries
        tries = min(tries, _HUB_TRIES) if self.root.startswith(_HUB) else tries
        for attempt in range(1, tries + 1):
            try:
                return read()
            except ShardFormatError:
                raise
            except ImportError as caught:
                raise missing_package_error(self.root, caught) from None
            except Exception as caught:  # each file system raises its own types
                error = cause_of(caught)
                if is_missing(error):
                    raise ShardFormatError(
                        f"{description}: there is no such file; copy it there or correct the root"
                    ) from None
                if is_final(error):
                    advice = access_advice(self.root, error)
                    raise ShardUnavailableError(
                        f"{description} cannot be read ({describe_read_error(error)}); {advice}"
                    ) from error
                if attempt == tries:
                    raise ShardUnavailableError(
                        f"{description} could not be read in {attempt} tries over {time.monotonic() - started:.0f} s, "
                        f"the last ended with {describe_read_error(error)}; {retry_advice(self.root)}, then start again"
                    ) from error
            time.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(2 * wait, self.retry_policy.longest_wait_s)
        raise AssertionError("the last try returns or raises")

    def _call(self, method: str, name: str, **options: Any) -> Any:
        """Calls a method of the file system, with the timeout if it is asynchronous."""
        filesystem, root = self._connect()
        path = f"{root}/{name}"
        if filesystem.async_impl:
            call = getattr(filesystem, f"_{method}")
            return sync(filesystem.loop, call, path, timeout=self.retry_policy.timeout_s, **options)
        return getattr(filesystem, method)(path, **options)

    def _connect(self) -> tuple[Any, str]:
        if self._process != os.getpid():
            # fsspec's event loop is a thread of the parent, and its file systems refuse use after a fork.
            _inherited_connections.append(self._connection)
            self._reset()
        with self._lock:
            if self._connection is None:
                # No cached listings: `info` must see a replaced file. No shared instance: it may be the parent's.
                filesystem, root = url_to_fs(self.root, skip_instance_cache=True, use_listings_cache=False)
                self._connection = filesystem, root.rstrip("/")
            return self._connection
