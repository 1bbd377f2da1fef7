"""Description of a job that would be submitted: `submit --dry-run` and `tune --dry-run`."""

import dataclasses
import json
import shlex
from pathlib import Path

import yaml

from jobs.client.job_server import describe_address
from jobs.ray_internals import max_upload_bytes
from jobs.spec.job import SEARCH_VERB, Job
from jobs.spec.job_spec import JobSpec
from jobs.spec.proposals import Proposals, option_arguments
from jobs.storage.search_record import read_search_arguments
from jobs.submission.submit import entrypoint, environment, num_cpus
from jobs.submission.upload import archive_bytes, largest_files, upload_sizes
from pipeline.cli.verbs import LIGHTNING_VERBS, RANKED_VERBS

_MAX_PROPOSALS = 5  # most settings that are shown


def describe_job(job: Job, staged: Path) -> list[str]:
    """Describe a job in lines of text: its command, cluster, workers, upload, environment and spec.

    Args:
        job: The job that would be submitted.
        staged: The folder of its upload.
    """
    spec, sizes, limit = job.spec, upload_sizes(staged), max_upload_bytes()
    lines = {
        "command": _describe_command(job),
        "runs as": _describe_execution(job.args[0], spec.num_workers, spec.cpus_per_worker),
        "checked": "every node is examined first" if job.check else None,
        "entrypoint": entrypoint(job),
        "cluster": describe_address(spec.address, num_cpus(job, staged)),
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
    search = _describe_proposals(job, staged) if job.args[0] == SEARCH_VERB else []
    return [
        *summary,
        *search,
        "environment:",
        *variables,
        "spec:",
        *(f"  {line}" for line in fields),
        "nothing was started",
    ]


def _describe_command(job: Job) -> str:
    """The job's command; a search's with the fields of its spec, by which `tune` would start the same one."""
    if job.args[0] != SEARCH_VERB:
        return job.command_line
    defaults = JobSpec()
    fields = {field.name: getattr(job.spec, field.name) for field in dataclasses.fields(JobSpec)}
    given = {name: value for name, value in fields.items() if value != getattr(defaults, name)}
    options = [f"--{name.replace('_', '-')} {shlex.quote(_option_text(value))}" for name, value in given.items()]
    search, _, trials = job.command_line.partition(" -- ")
    return f"{' '.join([search, *options])} -- {trials}"


def _option_text(value: object) -> str:
    return json.dumps(value) if isinstance(value, (dict, list)) else str(value)


def _describe_proposals(job: Job, staged: Path) -> list[str]:
    """The size of a search, and the settings of its first trials."""
    space, _ = read_search_arguments(job.args, staged)
    proposals, shown = Proposals(space), min(_MAX_PROPOSALS, space.num_trials)
    lines = [f"  {number}: {' '.join(option_arguments(proposals.propose(number)))}" for number in range(1, shown + 1)]
    size = f"{space.num_trials}, {space.concurrent} at a time; search {space.search}, scheduler {space.scheduler}"
    return [f"{'trials:':<12} {size}; the first settings:", *lines]


def _describe_execution(verb: str, num_workers: int, cpus_per_worker: int) -> str:
    if verb == SEARCH_VERB:
        return f"trials under Ray Tune, each of {num_workers} ranks under Ray Train"
    if verb in LIGHTNING_VERBS or verb in RANKED_VERBS:
        return f"{num_workers} ranks under Ray Train, the same command on each"
    if verb == "pack":
        return f"Ray tasks, a shard each, {num_workers * cpus_per_worker} at once"
    if verb == "doctor":
        return "a task on every node"
    return "one task with the resources of one worker"
