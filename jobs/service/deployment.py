"""Ray Serve's side of a service: the deployment of its replicas, and the handle by which the gateway asks them."""

import asyncio
import logging
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

import ray
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, RayServeException
from ray.serve.handle import DeploymentHandle
from ray.serve.schema import LoggingConfig

from jobs.client.local_cluster import is_alive
from jobs.client.local_state import LocalCluster, read_cluster
from jobs.client.service_record import ServiceRecord
from jobs.ray_internals import cluster_address, fixed_version
from jobs.service.classification import Classification, ClassifyRequest, ServiceBusyError, ServiceUnavailableError
from jobs.service.classifier_replica import ClassifierReplica, ReplicaLimits
from jobs.service.service_options import ReplicaOptions

APPLICATION = "classify"
DEPLOYMENT = "ClassifierReplica"
_MAX_QUEUED = 100_000  # requests that wait within Ray: the gateway accepts far fewer
_TRIES = 8
_LONGEST_PAUSE_S = 5.0
_STATUS_EVERY_S = 2.0
_HEALTH_EVERY_S = 5.0
logging.getLogger("ray.serve").setLevel(logging.WARNING)  # `serve` prints its own lines
_DRAIN_S = 600.0  # longest time that a replica gets to answer what it has, before it ends


def connect_ray(address: str | None, local: LocalCluster | None) -> None:
    """Connects this process to a cluster, as the driver of the service.

    Args:
        address: Ray's address of the cluster of this node; None: the local cluster.
        local: the local cluster, where it is used.

    Raises:
        ConnectionError: there is no cluster, or it refuses us.
    """
    if local is not None:
        os.environ["RAY_AUTH_TOKEN_PATH"] = local.token_path
        os.environ.pop("RAY_ADDRESS", None)
        address = cluster_address(local.folder)
    folders = [os.path.abspath(folder) for folder in sys.path]  # noqa: PTH100 - "" is the cwd
    try:
        ray.init(
            address,
            namespace="serve",
            log_to_driver=False,
            logging_level=logging.ERROR,
            # The code of this process: nothing is uploaded, as the network's file must be seen by all nodes anyway.
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(folders)}},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConnectionError(
            f"address={address}: there is no Ray cluster to use from this node ({reason}); run `serve` on a node of "
            "the cluster, with RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH where it asks for its token"
        ) from None


def connect_service(service: ServiceRecord) -> None:
    """Connects this process to the cluster of a service of this machine.

    Raises:
        ConnectionError: the cluster has ended, or refuses us.
    """
    if service.address:
        connect_ray(service.address, None)
        return
    local = read_cluster()
    if local is None or not is_alive(local):
        raise ConnectionError("the local cluster of the service has ended; end the service with --stop")
    connect_ray(None, local)


def refuse_missing_resources(options: ReplicaOptions) -> None:
    """Raises ValueError if the cluster has fewer CPUs or GPUs than the replicas take."""
    existing: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for name, each in (("CPU", options.cpus_per_replica), ("GPU", options.gpus_per_replica)):
        needed = options.replicas * each
        if needed > existing.get(name, 0):
            raise ValueError(
                f"replicas={options.replicas}, {name.lower()}s_per_replica={each:g}: take {needed:g} {name}s, and the "
                f"cluster has {existing.get(name, 0):g}; ask for less, or add nodes (a local cluster: `python -m jobs "
                "down`)"
            )


def deploy(options: ReplicaOptions) -> None:
    """Deploys the replicas, or changes the network of those that run, one after the other; waits until they answer.

    A replica that runs opens the new network beside the old one. Meanwhile it gets no new requests, which wait for
    another replica or for this one; those that it has end with the old network.

    Raises:
        RuntimeError: they do not start.
    """
    limits = ReplicaLimits(options.decoders, options.decode_timeout_s, options.decode_memory_bytes)
    deployment = serve.deployment(
        ClassifierReplica,
        name=DEPLOYMENT,
        num_replicas=options.replicas,
        ray_actor_options={"num_cpus": options.cpus_per_replica, "num_gpus": options.gpus_per_replica},
        max_ongoing_requests=options.ongoing_per_replica,
        max_queued_requests=_MAX_QUEUED,
        user_config=options.network(),
        graceful_shutdown_timeout_s=_DRAIN_S,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=_HEALTH_EVERY_S,
        health_check_timeout_s=60,
        logging_config=LoggingConfig(enable_access_log=False, log_level="WARNING"),
    )
    try:
        serve.start(proxy_location="Disabled")
        serve.run(fixed_version(deployment, "1").bind(limits), name=APPLICATION, route_prefix=None)
    except (RuntimeError, RayServeException, RayError) as error:
        raise RuntimeError(f"the replicas do not start: {problem_of(error)}") from None


def undeploy() -> None:
    """Ends the replicas; Ray Serve stays, as others may use it."""
    serve.delete(APPLICATION)


def problem_of(error: BaseException) -> str:
    """The last line of an error of Ray, which is that of the exception itself."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:500] if lines else type(error).__name__


class ClusterClassifier:
    """The replicas, as the gateway asks them; a request whose replica dies is given to another one.

    Args:
        on_retry: called when a request is given to another replica.
    """

    def __init__(self, on_retry: Callable[[], None]) -> None:
        self._handle: DeploymentHandle[Any] = serve.get_app_handle(APPLICATION)
        self._on_retry = on_retry
        self._problem = ""
        self._ended = threading.Event()
        self._watch = threading.Thread(target=self._watch_replicas, name="replicas", daemon=True)
        self._watch.start()

    async def classify(self, data: bytes, request: ClassifyRequest) -> Classification:
        """Classifies the bytes of a video file."""
        answer: Classification = await self._ask("classify", data, request)
        return answer

    async def describe(self) -> dict[str, Any]:
        """Classes, task and network as plain data."""
        answer: dict[str, Any] = await self._ask("describe")
        return answer

    def problem(self) -> str:
        """Why no request can be answered now; empty if it can."""
        return self._problem

    def close(self) -> None:
        """Ends the watch over the replicas."""
        self._ended.set()
        self._watch.join()

    async def _ask(self, method: str, *args: Any) -> Any:
        """Calls a method of some replica, and again of another one if it dies: to classify changes nothing."""
        failure: BaseException | None = None
        for attempt in range(_TRIES):
            if attempt:
                self._on_retry()
                await asyncio.sleep(min(_LONGEST_PAUSE_S, 0.1 * 2**attempt))
            try:
                return await getattr(self._handle, method).remote(*args)
            except BackPressureError:
                raise ServiceBusyError from None
            except RayTaskError:
                raise
            except (RayError, DeploymentUnavailableError) as error:
                failure = error
        assert failure is not None
        raise ServiceUnavailableError(f"no replica answers ({problem_of(failure)}); try again later") from None

    def _watch_replicas(self) -> None:
        while not self._ended.wait(_STATUS_EVERY_S):
            self._problem = _replica_problem()


def _replica_problem() -> str:
    try:
        running = replica_states().get("RUNNING", 0)
    except Exception as error:  # whatever Ray raises: a watch that ends would leave its last answer
        return f"Ray Serve does not answer ({problem_of(error)})"
    return "" if running else "no replica is running"


def replica_states() -> dict[str, int]:
    """The number of replicas by their state in Ray Serve; KeyError if the service is not deployed."""
    states = serve.status().applications[APPLICATION].deployments[DEPLOYMENT].replica_states
    return {str(getattr(state, "value", state)): count for state, count in states.items()}  # now and then plain strings
