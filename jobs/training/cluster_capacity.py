"""Capacity of the cluster, in train workers of a job."""

import math
import time
from collections.abc import Callable
from typing import Any

import ray

from jobs.ray_internals import draining_nodes
from jobs.spec.job_spec import JobSpec

_SETTLE_S = 15.0  # a worker group's resources are released some seconds after its end
_POLL_S = 0.5


def max_workers(spec: JobSpec) -> int:
    """The number of workers, at most `num_workers`, that fit on the nodes if nothing else runs there."""
    leaving = draining_nodes()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    staying = [node["Resources"] for node in nodes if node["Alive"] and node["NodeID"] not in leaving]
    return min(spec.num_workers, sum(_held(spec, resources) for resources in staying))


def free_workers(spec: JobSpec) -> int:
    """The number of workers that fit into the resources that are unused now."""
    return _held(spec, ray.available_resources())  # type: ignore[no-untyped-call]


def workers_to_start(spec: JobSpec, stopping: Callable[[], bool]) -> int:
    """Wait for room, and return the number of workers with which an attempt of an elastic job starts.

    Args:
        spec: The spec of the job.
        stopping: Whether the job is being stopped, which ends the wait.

    Raises:
        TimeoutError: There is no room for `min_workers` within `start_timeout_s`, or the job is being stopped.
    """
    begun = time.monotonic()
    while True:
        fit, free = max_workers(spec), free_workers(spec)
        waited = time.monotonic() - begun
        if free >= fit >= spec.fewest_workers:
            return fit
        if min(fit, free) >= spec.fewest_workers and waited > _SETTLE_S:
            return min(fit, free)
        if waited > spec.start_timeout_s or stopping():
            raise TimeoutError(
                f"min_workers={spec.fewest_workers}: the cluster has room for {min(fit, free)} workers with "
                f"cpus_per_worker={spec.cpus_per_worker} and gpus_per_worker={spec.gpus_per_worker} after "
                f"{spec.start_timeout_s:g} s"
            )
        time.sleep(_POLL_S)


def _held(spec: JobSpec, resources: dict[str, float]) -> int:
    """The number of workers that fit into these resources."""
    room = resources.get("CPU", 0.0) / spec.cpus_per_worker
    if spec.gpus_per_worker:
        room = min(room, resources.get("GPU", 0.0) / spec.gpus_per_worker)
    return math.floor(room + 1e-6)
