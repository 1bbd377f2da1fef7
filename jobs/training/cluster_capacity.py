"""Capacity of the cluster, in train workers of a job."""

import math
import time
from collections.abc import Callable
from typing import Any

import ray

from jobs.ray_internals import draining_nodes
from jobs.spec.job_spec import JobSpec

_RELEASE_TIMEOUT_S = 15.0  # a worker group's resources are released some seconds after its end
POLL_S = 0.5


def max_workers(spec: JobSpec) -> int:
    """The number of workers, at most `num_workers`, that fit on the nodes if nothing else runs there."""
    draining = draining_nodes()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    available = [node["Resources"] for node in nodes if node["Alive"] and node["NodeID"] not in draining]
    return min(spec.num_workers, sum(_worker_capacity(spec, resources) for resources in available))


def free_workers(spec: JobSpec) -> int:
    """The number of workers that fit into the resources that are unused now."""
    return _worker_capacity(spec, ray.available_resources())  # type: ignore[no-untyped-call]


def wait_for_workers(spec: JobSpec, is_stopping: Callable[[], bool]) -> int:
    """Wait for capacity, and return the number of workers with which an attempt of an elastic job starts.

    Args:
        spec: The spec of the job.
        is_stopping: Returns whether the job is being stopped, which ends the wait.

    Raises:
        TimeoutError: There is no capacity for `min_workers` within `start_timeout_s`, or the job is being stopped.
    """
    start_time = time.monotonic()
    while True:
        largest, free = max_workers(spec), free_workers(spec)
        waited = time.monotonic() - start_time
        if free >= largest >= spec.smallest_num_workers:
            return largest
        possible = min(largest, free)
        if possible >= spec.smallest_num_workers and waited > _RELEASE_TIMEOUT_S:
            return possible
        if waited > spec.start_timeout_s or is_stopping():
            raise TimeoutError(
                f"min_workers={spec.smallest_num_workers}: the cluster has capacity for {possible} workers with "
                f"cpus_per_worker={spec.cpus_per_worker} and gpus_per_worker={spec.gpus_per_worker} after "
                f"{spec.start_timeout_s:g} s"
            )
        time.sleep(POLL_S)


def _worker_capacity(spec: JobSpec, resources: dict[str, float]) -> int:
    """The number of workers that fit into these resources."""
    return min(math.floor(resources.get(name, 0.0) / count + 1e-6) for name, count in spec.worker_resources.items())
