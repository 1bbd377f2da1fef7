"""How many train workers of a job the cluster has room for."""

import math
import time
from collections.abc import Callable
from typing import Any

import ray

from jobs.ray_internals import draining_nodes
from jobs.spec.job_spec import JobSpec

_SETTLE_S = 15.0  # what a worker group held comes free some seconds after its end
_POLL_S = 0.5


def max_workers(spec: JobSpec) -> int:
    """For how many workers, `num_workers` at most, the nodes are large enough, whatever else they do now."""
    leaving = draining_nodes()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    staying = [node["Resources"] for node in nodes if node["Alive"] and node["NodeID"] not in leaving]
    return min(spec.num_workers, sum(_held(spec, resources) for resources in staying))


def free_workers(spec: JobSpec) -> int:
    """For how many more workers nobody uses the resources now."""
    return _held(spec, ray.available_resources())  # type: ignore[no-untyped-call]


def workers_to_start(spec: JobSpec, stopping: Callable[[], bool]) -> int:
    """With how many workers an attempt of an elastic job begins: as many as there is room for.

    Args:
        spec: The job's.
        stopping: Whether to wait no longer.

    Raises:
        TimeoutError: Fewer than `min_workers` have room within `start_timeout_s`.
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
    """How many workers a node with these resources holds."""
    room = resources.get("CPU", 0.0) / spec.cpus_per_worker
    if spec.gpus_per_worker:
        room = min(room, resources.get("GPU", 0.0) / spec.gpus_per_worker)
    return math.floor(room + 1e-6)
