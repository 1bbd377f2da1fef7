"""Whether a storage path can be written and read, and whether all nodes see the same one."""

import os
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import pyarrow.fs

PROBE = ".doctor-"
_PATIENCE_S = 10.0  # that another node's file may take to appear on a network file system


def check_storage(storage_path: str) -> str:
    """Writes a file, reads it back, renames and removes it.

    Args:
        storage_path: a folder, made where it is missing, or a URI such as s3://bucket/runs.

    Raises:
        ValueError: one of them failed.
    """
    token, who = new_token(), f"{os.uname().nodename}-{os.getpid()}"
    try:
        write_probe(storage_path, token, who)
        missing = missing_probes(storage_path, token, [who], patience_s=0)
    finally:
        remove_probe(storage_path, token, who)
    if missing:
        raise ValueError(f"storage_path={storage_path}: what was written there is not there to be read")
    return f"{storage_path}: written, renamed, read and removed"


def new_token() -> str:
    """Tells the probes of one examination from others'."""
    return uuid.uuid4().hex[:8]


def write_probe(storage_path: str, token: str, who: str) -> None:
    """Leaves a file with the name of a node in it, written aside and renamed.

    Raises:
        ValueError: that is not possible; the message says why.
    """
    try:
        system, root = _open(storage_path)
        system.create_dir(root)
        aside, place = f"{root}/{PROBE}{token}-{who}.aside", f"{root}/{PROBE}{token}-{who}"
        with system.open_output_stream(aside) as stream:
            stream.write(who.encode())
        system.move(aside, place)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else " ".join(str(error).split())
        raise ValueError(
            f"storage_path={storage_path}: cannot be written ({reason}): give a folder that this user may write, on a "
            "file system that all nodes share, or a URI with credentials in the nodes' environment"
        ) from None


def missing_probes(storage_path: str, token: str, of: Sequence[str], patience_s: float = _PATIENCE_S) -> list[str]:
    """Those nodes whose files cannot be read here, after waiting for them."""
    deadline = time.monotonic() + patience_s
    while True:
        missing = [who for who in of if not _reads(storage_path, token, who)]
        if not missing or time.monotonic() >= deadline:
            return missing
        time.sleep(0.3)


def remove_probe(storage_path: str, token: str, who: str) -> None:
    """Leaves nothing behind, as far as that is possible."""
    try:
        system, root = _open(storage_path)
    except (OSError, ValueError):
        return
    for name in (f"{PROBE}{token}-{who}.aside", f"{PROBE}{token}-{who}"):
        try:
            system.delete_file(f"{root}/{name}")
        except OSError:
            continue


def _reads(storage_path: str, token: str, who: str) -> bool:
    try:
        system, root = _open(storage_path)
        with system.open_input_stream(f"{root}/{PROBE}{token}-{who}") as stream:
            return bytes(stream.read()) == who.encode()
    except OSError:
        return False


def _open(storage_path: str) -> tuple[pyarrow.fs.FileSystem, str]:
    absolute = storage_path if "://" in storage_path else str(Path(storage_path).expanduser().absolute())
    try:
        found: tuple[pyarrow.fs.FileSystem, str] = pyarrow.fs.FileSystem.from_uri(absolute)
    except ValueError as error:
        raise ValueError(f"storage_path={storage_path}: {' '.join(str(error).split())}") from None
    return found
