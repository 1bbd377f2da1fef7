"""Checks that a storage path can be written and read, and that all nodes see the same one."""

import os
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.checkpoints.storage import Storage, open_storage

PROBE_PREFIX = ".doctor-"
_VISIBILITY_TIMEOUT_S = 10.0  # seconds that another node's file may take to appear on a network file system


def check_storage(storage_path: str) -> str:
    """Writes a file, renames it, reads it back and removes it.

    Args:
        storage_path: a folder, which is created if absent, or a URI such as s3://bucket/runs.

    Raises:
        ValueError: writing, renaming or reading failed.
    """
    token, writer = new_token(), f"{os.uname().nodename}-{os.getpid()}"
    try:
        write_probe(storage_path, token, writer)
        missing = missing_probes(storage_path, token, [writer], timeout_s=0)
    finally:
        remove_probe(storage_path, token, writer)
    if missing:
        raise ValueError(f"storage_path={storage_path}: what was written there is not there to be read")
    return f"{storage_path}: written, renamed, read and removed"


def new_token() -> str:
    """A random name that distinguishes the probe files of one check from those of others: 8 hexadecimal digits."""
    return uuid.uuid4().hex[:8]


def write_probe(storage_path: str, token: str, writer: str) -> None:
    """Writes a probe file that contains `writer`, the name of a node and process, and renames it into place.

    Raises:
        ValueError: the file cannot be written; the message has the reason.
    """
    try:
        storage = _open(storage_path)
        storage.create_folder()
        storage.write(f"{PROBE_PREFIX}{token}-{writer}.aside", lambda path: path.write_text(writer))
        storage.rename(f"{PROBE_PREFIX}{token}-{writer}.aside", f"{PROBE_PREFIX}{token}-{writer}")
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        raise ValueError(
            f"storage_path={storage_path}: cannot be written ({reason}): give a folder that this user may write, on a "
            "file system that all nodes share, or a URI with credentials in the nodes' environment"
        ) from None


def missing_probes(
    storage_path: str, token: str, writers: Sequence[str], timeout_s: float = _VISIBILITY_TIMEOUT_S
) -> list[str]:
    """The `writers` whose probe files cannot be read here, after waiting up to `timeout_s` seconds for them."""
    deadline = time.monotonic() + timeout_s
    while True:
        missing = [writer for writer in writers if not _is_readable(storage_path, token, writer)]
        if not missing or time.monotonic() >= deadline:
            return missing
        time.sleep(0.3)


def remove_probe(storage_path: str, token: str, writer: str) -> None:
    """Removes the probe file of a writer, as far as possible; errors are ignored."""
    with suppress(OSError, ValueError):
        storage = _open(storage_path)
        storage.remove(f"{PROBE_PREFIX}{token}-{writer}.aside")
        storage.remove(f"{PROBE_PREFIX}{token}-{writer}")


def _is_readable(storage_path: str, token: str, writer: str) -> bool:
    try:
        return _open(storage_path).read(f"{PROBE_PREFIX}{token}-{writer}") == writer.encode()
    except OSError:
        return False


def _open(storage_path: str) -> Storage:
    try:
        return open_storage(storage_path if "://" in storage_path else str(Path(storage_path).expanduser().absolute()))
    except ValueError as error:
        raise ValueError(f"storage_path={storage_path}: {' '.join(str(error).split())}") from None
