"""The CPUs and GPUs of this machine, checked before a local cluster is started for a job."""

from jobs.ray_internals import num_local_gpus
from jobs.spec.job_spec import JobSpec
from pipeline.processes.machine import num_processors


def check_gpus(spec: JobSpec) -> None:
    """Raise ValueError if a job needs more GPUs than this machine has: Ray cannot schedule more than exist.

    Args:
        spec: The spec of the job.
    """
    needed, existing = spec.smallest_num_workers * spec.gpus_per_worker, num_local_gpus()
    if needed > existing:
        raise ValueError(
            f"num_workers={spec.num_workers}, gpus_per_worker={spec.gpus_per_worker}: take {needed} GPUs, and a "
            f"local cluster on this machine would have {existing}; give the cluster's --address (or RAY_ADDRESS), or "
            "ask for less"
        )


def describe_cpus(num_cpus: int) -> str:
    """Describe the number of CPUs of a local cluster, and whether it exceeds the number of this machine.

    Args:
        num_cpus: The number of CPUs that Ray schedules.
    """
    existing = num_processors()
    if num_cpus <= existing:
        return f"with {num_cpus} CPUs"
    return f"with {num_cpus} CPUs, of which this machine has {existing}: its workers share them, and are slower for it"
