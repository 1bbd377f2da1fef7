"""What this machine has for a local cluster, before one is started for a job."""

from jobs.ray_internals import local_gpus
from jobs.spec.job_spec import JobSpec
from pipeline.processes.machine import num_processors


def check_gpus(spec: JobSpec) -> None:
    """ValueError for a job whose GPUs a local cluster would not have: Ray can share out no more than there are.

    Args:
        spec: The job's.
    """
    needed, there = spec.fewest_workers * spec.gpus_per_worker, local_gpus()
    if needed > there:
        raise ValueError(
            f"num_workers={spec.num_workers}, gpus_per_worker={spec.gpus_per_worker}: take {needed} GPUs, and a "
            f"local cluster on this machine would have {there}; give the cluster's --address (or RAY_ADDRESS), or ask "
            "for less"
        )


def describe_cpus(num_cpus: int) -> str:
    """How many CPUs a local cluster shares out, and where that is more than there are, that they are shared.

    Args:
        num_cpus: As Ray is told.
    """
    there = num_processors()
    if num_cpus <= there:
        return f"with {num_cpus} CPUs"
    return f"with {num_cpus} CPUs, of which this machine has {there}: its workers share them, and are slower for it"
