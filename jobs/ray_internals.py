"""What is used of Ray that is not its public interface; read in Ray 2.60.0, where a test looks at each of them again.

Ray is imported within the functions: the submitting side has no use for Ray Train, which brings torch.
"""

import logging
from typing import Any

# Loggers that tell at length what is told here in a line: of a failed rank, and of a client that uploads and hangs up.
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
# Of Ray's core at each start of Ray Train, about an actor of Ray's own: nobody can act on it.
CORE_NOISE = "Actor with class name: 'PreemptionWatcher'"


def user_exception(error: BaseException) -> BaseException:
    """The exception that a rank raised.

    Args:
        error: What a `ray.train.UserCallback` is given for the rank: a
            `ray.train.v2._internal.exceptions.UserExceptionWithTraceback` around it, or, where the process of the rank
            was lost, the exception itself.
    """
    raised = getattr(error, "_base_exc", None)
    return raised if isinstance(raised, BaseException) else error


def draining_nodes() -> set[str]:
    """The ids of nodes that are being drained: preempted spot machines, nodes that got SIGTERM."""
    import ray._private.state as state  # the one place where Ray tells it outside of its own autoscaler

    return set(state.state.get_draining_nodes())


def local_gpus() -> int:
    """The GPUs that Ray would find on this machine, within CUDA_VISIBLE_DEVICES."""
    from ray._private.accelerators import get_accelerator_manager_for_resource

    manager = get_accelerator_manager_for_resource("GPU")
    assert manager is not None, "Ray knows GPUs"
    visible = manager.get_current_process_visible_accelerator_ids()  # None: all
    there = int(manager.get_current_node_num_accelerators())
    return there if visible is None else min(there, len(visible))


def largest_upload() -> int:
    """The bytes of a request that the job server takes; a longer one gets HTTP 413.

    Ray's own warnings speak of 512 MiB, which is another limit.
    """
    from ray._private import ray_constants

    return int(ray_constants.DASHBOARD_CLIENT_MAX_SIZE)


def torch_backend() -> Any:
    """The class of the backend that sets up torch's process group; its public name is an attribute of TorchConfig."""
    from ray.train.torch import TorchConfig

    return TorchConfig().backend_cls


def quieten_reports() -> None:
    """Keeps Ray Train from saying of every report of every rank that it was made; ours says so once."""
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    for handler in logging.getLogger().handlers:  # that one message comes from a logger with a file's name
        handler.addFilter(lambda record: not record.getMessage().startswith(REPORT_MESSAGE))
