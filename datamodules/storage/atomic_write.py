"""Atomic writes: a file or folder is written under a temporary name in the same folder, then renamed."""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTIAL_SUFFIX = ".partial"


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """Context manager that yields a temporary path, and at the end syncs it to disk and renames it to `path`.

    The temporary name is unique, so two writers of one file never mix their bytes: the last to finish wins. If the body
    raises, the temporary file is removed and `path` is unchanged. A killed process leaves its temporary file, which
    `remove_partial_files` removes.

    Args:
        path: The file to write; its folder exists.

    Yields:
        The path to write to.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}{PARTIAL_SUFFIX}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def write_folder_atomically(folder: Path) -> Iterator[Path]:
    """Context manager that yields a new temporary folder, which takes the place of `folder` at the end.

    If the body raises, nothing is left of it and `folder` is unchanged.

    Args:
        folder: The folder to write, whose parents are created; what is there is replaced.

    Yields:
        The folder to write to.
    """
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}{PARTIAL_SUFFIX}")
    temporary.mkdir(parents=True)
    try:
        yield temporary
        if folder.exists():
            shutil.rmtree(folder)
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Makes renames in a folder durable, on file systems that support it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_partial_files(folder: Path) -> int:
    """Removes temporary files of killed writers; call it only while nobody writes there. Returns their number."""
    leftovers = list(folder.glob(f".*{PARTIAL_SUFFIX}"))
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return len(leftovers)
