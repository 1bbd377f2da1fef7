"""Locks between processes that share a folder; the lock of a process ends with it, however it ends."""

from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["FileLock", "Timeout", "file_lock"]

_POLL_S = 0.005  # filelock asks again and again; most of our locks are held for milliseconds


def file_lock(path: Path, wait: bool = True) -> FileLock:
    """An exclusive lock, taken by `with` or `acquire`; the system lets go of it when its holder dies.

    Args:
        path: The lock's file, made where it is missing, and never removed.
        wait: Wait for the holder; else `Timeout` is raised where there is one.

    Raises:
        OSError: When it is taken: the file cannot be opened, or its file system has no locks. filelock's stand-in for
            those would stay locked after its holder was killed.
    """
    return FileLock(path, blocking=wait, poll_interval=_POLL_S, fallback_to_soft=False, is_singleton=False)
