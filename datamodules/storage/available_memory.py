"""Available memory of a process, with which the size of a batch is compared before anything is decoded."""

import math
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")


def available_memory() -> float:
    """Bytes available without swapping, by the machine and by the container's limit; infinite if unknown."""
    return min(_machine_memory(), _container_memory())


def _machine_memory() -> float:
    try:
        lines = _MEMINFO.read_text().splitlines()
        [kib] = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    except (OSError, ValueError):
        return math.inf
    return 1024 * float(kib)


def _container_memory() -> float:
    """The rest of the control group's limit (version 2); its page cache counts as used, so the value is low."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
    except (OSError, ValueError):
        return math.inf
    return math.inf if limit == "max" else max(0.0, float(limit) - used)
