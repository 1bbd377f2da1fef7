"""Uses of Ray's private interfaces, as of Ray 2.60.0; a test checks each of them.

Ray is imported within the functions: the submitting side does not need Ray Train, which imports torch.
"""

import logging
from pathlib import Path
from typing import Any

# Loggers with long messages about what this package prints in a line: failed ranks; uploads, lost connections.
FAILURE_LOGGERS = (
    "ray.train.v2._internal.execution.failure_handling.default",
    "ray.train.v2._internal.callbacks.backend_setup",
)
CLIENT_LOGGERS = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
REPORT_MESSAGE = "Reporting training result"  # how the message of every rank about every report begins
# A warning of Ray's core at each start of Ray Train, about an actor of Ray itself; users cannot act on it.
CORE_NOISE = "Actor with class name: 'PreemptionWatcher'"


def user_exception(error: BaseException) -> BaseException:
    """The exception that a rank raised.

    Args:
        error: The exception that a `ray.train.UserCallback` gets for the rank: a
            `ray.train.v2._internal.exceptions.UserExceptionWithTraceback` around the rank's exception, or, if the
            process of the rank was lost, Ray's own exception, which is returned as it is.
    """
    raised = getattr(error, "_base_exc", None)
    return raised if isinstance(raised, BaseException) else error


def draining_nodes() -> set[str]:
    """The ids of nodes that are being drained: preempted spot machines, nodes that received SIGTERM."""
    import ray._private.state as state  # the only source outside of Ray's autoscaler

    return set(state.state.get_draining_nodes())


def num_local_gpus() -> int:
    """The number of GPUs that Ray would find on this machine, within CUDA_VISIBLE_DEVICES."""
    from ray._private.accelerators import get_accelerator_manager_for_resource

    manager = get_accelerator_manager_for_resource("GPU")
    assert manager is not None, "Ray knows GPUs"
    visible = manager.get_current_process_visible_accelerator_ids()  # None: all
    num_gpus = int(manager.get_current_node_num_accelerators())
    return num_gpus if visible is None else min(num_gpus, len(visible))


def max_upload_bytes() -> int:
    """The size limit in bytes of a request to the job server, which answers a longer one with HTTP 413.

    The 512 MiB in Ray's own warnings are another limit.
    """
    from ray._private import ray_constants

    return int(ray_constants.DASHBOARD_CLIENT_MAX_SIZE)


def torch_backend() -> Any:
    """The class of the backend that sets up torch's process group, from the public attribute of TorchConfig."""
    from ray.train.torch import TorchConfig

    return TorchConfig().backend_cls


def silence_reports() -> None:
    """Silence Ray Train's message about every report of every rank; the checkpoint callback prints one line."""
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:  # that one message comes from a logger with a file's name
        handler.addFilter(lambda record: not record.getMessage().startswith(REPORT_MESSAGE))


def cluster_address(folder: str) -> str:
    """Ray's own address, host:port, of a cluster that was started with a temporary folder below `folder`.

    Raises:
        ConnectionError: the folder does not say it.
    """
    try:  # `ray start` writes it, for `ray.init("auto")` on the same machine
        return (Path(folder) / "r" / "ray_current_cluster").read_text(encoding="utf-8").strip()
    except OSError:
        raise ConnectionError(f"{folder}: the local cluster does not say its address; `python -m jobs down`") from None


def fixed_version(deployment: Any, version: str) -> Any:
    """A deployment of Ray Serve with a version: a change of its `user_config` alone then starts no new processes."""
    return deployment.options(version=version, _internal=True)
