"""Memory that is freed stays with the process, for the next batch: else each one's pages are fetched anew.

By default glibc gives large blocks back to the kernel as soon as they are freed, and in threads, such as the one that
trains under Ray, heaps too. A training step frees and takes the same blocks again; each of their pages then costs a
fault, and the kernel fills it with zeros (benchmarks/README.md, "Freed memory"). What a process holds does not grow
beyond its peak.
"""

import ctypes
import os

_MIB = 2**20
# Number in glibc's malloc.h, name in the environment, value. One heap for all threads: those of threads end at 64 MiB.
_OPTIONS = (
    (-1, "MALLOC_TRIM_THRESHOLD_", 1024 * _MIB),
    (-2, "MALLOC_TOP_PAD_", 64 * _MIB),
    (-3, "MALLOC_MMAP_THRESHOLD_", 256 * _MIB),
    (-8, "MALLOC_ARENA_MAX", 1),
)


def environment() -> dict[str, str]:
    """The same for a process that is to be started with other threads than ours: names and values."""
    return {name: str(value) for _, name, value in _OPTIONS if name not in os.environ}


def raise_malloc_trim_threshold() -> bool:
    """From now on this process, and those forked from it, keep up to 1 GiB of what they free.

    Threads that have a heap of their own already keep what fits into it. What the environment says goes first.

    Returns:
        Whether the C library can be told so; others than glibc are left as they are.
    """
    try:
        tell = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all(tell(number, value) == 1 for number, name, value in _OPTIONS if name not in os.environ)
