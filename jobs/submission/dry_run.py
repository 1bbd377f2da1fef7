"""Description of a job that would be submitted: `submit --dry-run`."""

import dataclasses
import shlex
from pathlib import Path

import yaml

from jobs.client.job_server import describe_address
from jobs.ray_internals import max_upload_bytes
from jobs.spec.job import Job
from jobs.submission.submit import entrypoint, environment
from jobs.submission.upload import archive_bytes, largest_files, upload_sizes
from pipeline.cli.verbs import LIGHTNING_VERBS, RANKED_VERBS


def describe_job(job: Job, staged: Path) -> list[str]:
    """Describe a job in lines of text: its command, cluster, workers, upload, environment and spec.

    Args:
        job: The job that would be submitted.
        staged: The folder of its upload.
    """
    spec, sizes, limit = job.spec, upload_sizes(staged), max_upload_bytes()
    lines = {
        "command": f"python -m pipeline {job.command}",
        "runs as": _describe_execution(job.args[0], spec.num_workers, spec.cpus_per_worker),
        "checked": "every node is examined first" if job.check else None,
        "entrypoint": entrypoint(job),
        "cluster": describe_address(spec.address, spec.num_workers * spec.cpus_per_worker),
        "run folder": f"{spec.storage_path}/{spec.name}",
        "workers": f"{spec.num_workers}, each with {spec.cpus_per_worker} CPU and {spec.gpus_per_worker} GPU; "
        f"{spec.num_workers * spec.cpus_per_worker} CPU and {spec.num_workers * spec.gpus_per_worker} GPU in all; "
        f"placement {spec.placement}",
        "upload": f"{len(sizes)} files, {archive_bytes(sizes) / 2**20:.2f} MiB of the {limit / 2**20:g} MiB "
        f"that Ray takes; the biggest: {largest_files(sizes)}",
    }
    summary = [f"{name + ':':<12} {text}" for name, text in lines.items() if text is not None]
    variables = [f"  {name}={shlex.quote(value)}" for name, value in sorted(environment(spec).items())]
    fields = yaml.safe_dump(dataclasses.asdict(spec), sort_keys=False).splitlines()
    return [*summary, "environment:", *variables, "spec:", *(f"  {line}" for line in fields), "nothing was started"]


def _describe_execution(verb: str, num_workers: int, cpus_per_worker: int) -> str:
    if verb in LIGHTNING_VERBS or verb in RANKED_VERBS:
        return f"{num_workers} ranks under Ray Train, the same command on each"
    if verb == "pack":
        return f"Ray tasks, a shard each, {num_workers * cpus_per_worker} at once"
    if verb == "doctor":
        return "a task on every node"
    return "one task with the resources of one worker"
