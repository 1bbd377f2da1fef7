"""Locks between processes that share a folder; a lock is released when its process ends in any way."""

from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["FileLock", "Timeout", "file_lock"]

_POLL_S = 0.005  # polling interval of filelock; most locks are held for milliseconds


def file_lock(path: Path, wait: bool = True) -> FileLock:
    """An exclusive lock, acquired by `with` or `acquire`; the operating system releases it if its holder dies.

    Args:
        path: The path of the lock file, created if missing, and never removed.
        wait: Whether to wait for the holder; otherwise `Timeout` is raised if there is one.

    Raises:
        OSError: On acquisition: the file cannot be opened, or its file system has no locks. filelock's fallback for
            those would stay locked after its holder was killed.
    """
    return FileLock(path, blocking=wait, poll_interval=_POLL_S, fallback_to_soft=False, is_singleton=False)
