"""Submission: turns a JobSpec and a command line into a running Ray job.

Before anything reaches the cluster, these are checked: the spec; the verb; that every config exists; that the upload
alone is enough to read the configuration (a module that was not uploaded is missed here, in seconds, and not on the
cluster); on a local cluster, that the dataset exists; the size of the upload; that no job of the same name is running;
and, if this machine sees the run's folder, that the run has not finished.
"""

import contextlib
import dataclasses
import importlib.resources
import itertools
import os
import secrets
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml
from ray.job_submission import JobSubmissionClient

from jobs.client.job_server import check_address, connect, is_local_address, list_jobs, would_start_cluster
from jobs.client.local_resources import check_gpus
from jobs.client.local_state import SubmissionRecord, record_submission
from jobs.spec.job import JOB_FILE, OVERLAY_FILE, RESOLVED_FILE, SEARCH_VERB, SUBMISSION_VARIABLE, Job
from jobs.spec.job_spec import JobSpec
from jobs.spec.secret_scan import refuse_secrets
from jobs.storage.job_record import JobRecord
from jobs.storage.search_record import read_search_arguments
from jobs.submission.preflight import (
    check_configuration,
    check_dataset_folder,
    check_network_folders,
    check_verb,
    replaced_settings,
)
from jobs.submission.search_check import check_search_space, monitor_metric, trial_command
from jobs.submission.upload import CONFIG_FLAGS, stage_upload
from pipeline.cli.verbs import LIGHTNING_VERBS


def submit(
    spec: JobSpec, args: Sequence[str], *, read_config: bool = True, check_nodes: bool = False
) -> tuple[JobSubmissionClient, str]:
    """Submit `python -m pipeline ARGS` to the cluster; where there is none, start a local one.

    Args:
        spec: What the job needs.
        args: The command line from the verb on, such as ["fit", "--config", "pipeline/configs/demo.yaml"]; of a search
            ["tune", "--space", "space.yaml", "--", "fit", ...].
        read_config: Read the configuration here first, which takes some seconds.
        check_nodes: Examine every node before the command is run there.

    Returns:
        The client of the cluster and the id of the job.

    Raises:
        RunFinishedError: the run of that name has finished with this command.
        ValueError: the verb, an argument or the upload is wrong, or the run has finished with another command.
        FileNotFoundError: a config is missing.
        ConnectionError: the cluster cannot be reached.
    """
    check_command(args)
    # Remote clusters are connected to here, before the configuration is read for seconds.
    connection = None if is_local_address(spec.address) else connect(spec.address)
    with prepare_job(spec, args, read_config=read_config, check_nodes=check_nodes) as (job, staged):
        return submit_job(job, staged, address=spec.address, connection=connection)


@contextlib.contextmanager
def prepare_job(
    spec: JobSpec, args: Sequence[str], *, read_config: bool = True, check_nodes: bool = False
) -> Iterator[tuple[Job, Path]]:
    """Build a job and its upload, without talking to the cluster; the upload is removed on exit.

    Args:
        spec: The spec of the job.
        args: The command line from the verb on.
        read_config: Read the configuration here first, which takes some seconds.
        check_nodes: Examine every node before the command is run there.

    Yields:
        The job, and the folder of its upload.
    """
    check_command(args)
    check_address(spec.address)
    if would_start_cluster(spec.address):
        check_gpus(spec)
    origin = Path.cwd()
    with tempfile.TemporaryDirectory(prefix="arp-upload-") as folder:
        staged = Path(folder)
        selection = {"include": spec.include, "exclude": spec.exclude, "py_modules": spec.py_modules}
        uploaded_args = stage_upload(args, origin, staged, **selection)
        space = None
        if args[0] == SEARCH_VERB:
            space, uploaded_command = read_search_arguments(uploaded_args, staged)
            spec = monitor_metric(spec, space)
        else:
            uploaded_command = uploaded_args
        job = Job(_complete_spec(spec, args, origin), str(origin), tuple(uploaded_args), shlex.join(args), check_nodes)
        _check_unfinished(job, staged)
        job.write(staged)
        (staged / OVERLAY_FILE).write_text(overlay(spec), encoding="utf-8")
        if read_config and uploaded_command[0] in LIGHTNING_VERBS:
            checkpoint_flags = [f"--checkpoints.{name}={value}" for name, value in spec.checkpoint_options().items()]
            resolved = check_configuration([*uploaded_command, *checkpoint_flags], staged, origin)
            refuse_secrets(yaml.safe_load(resolved))
            (staged / RESOLVED_FILE).write_text(resolved, encoding="utf-8")
            is_local = is_local_address(spec.address)
            for note in [*replaced_settings(resolved, spec), *check_network_folders(resolved, is_local)]:
                print(f"note: {note}", file=sys.stderr)
            if is_local:
                check_dataset_folder(resolved)
            if space is not None:
                check_search_space(space, uploaded_command, resolved, staged, origin)
        elif read_config and args[0] == "pack":
            from pipeline.packing.pack_options import parse_pack_options

            parse_pack_options(args[1:])
        yield job, staged


def check_command(args: Sequence[str]) -> None:
    """Raise ValueError for a command line with an unknown verb or with a secret."""
    check_verb(trial_command(args) if args[:1] == [SEARCH_VERB] else args)
    refuse_secrets({}, args)


def submit_job(
    job: Job, staged: Path, *, address: str | None, connection: tuple[JobSubmissionClient, str] | None = None
) -> tuple[JobSubmissionClient, str]:
    """Submit a job and its upload to the cluster at `address`; if there is no cluster, start a local one.

    Args:
        job: The job that `prepare_job` yields.
        staged: The folder of its upload.
        address: The address of the cluster; None: the one that `connect` finds.
        connection: The result of `connect`, if the caller has connected already.

    Returns:
        The client of the cluster and the id of the job.

    Raises:
        ValueError: a job of that name is running, or a local cluster would not have enough GPUs.
        ConnectionError: the cluster cannot be reached.
    """
    spec = job.spec
    if connection is None and would_start_cluster(address):
        check_gpus(spec)
    client, server = connection or connect(address, start_with_cpus=num_cpus(job, staged))
    _check_name_is_free(client, spec)
    job_id = f"{spec.name}-{secrets.token_hex(2)}"
    client.submit_job(
        entrypoint=entrypoint(job),
        submission_id=job_id,
        runtime_env={"working_dir": str(staged), "env_vars": environment(spec) | {SUBMISSION_VARIABLE: job_id}},
        metadata={
            "name": str(spec.name),
            "storage_path": spec.storage_path,
            "command": job.command,
            "stop_timeout_s": str(spec.stop_timeout_s),
        },
    )
    record_submission(SubmissionRecord(job_id, str(spec.name), spec.storage_path, server, time.time()))
    return client, job_id


def num_cpus(job: Job, staged: Path) -> int:
    """The number of CPUs of all workers of a job; of a search, those of all trials that run at the same time."""
    concurrent = read_search_arguments(job.args, staged)[0].concurrent if job.args[0] == SEARCH_VERB else 1
    return concurrent * job.spec.num_workers * job.spec.cpus_per_worker


def entrypoint(job: Job) -> str:
    """The shell command of the driver, which Ray runs in a copy of the upload."""
    return shlex.join(["python", "-m", "jobs.driver", JOB_FILE, "--", *job.args])


def overlay(spec: JobSpec) -> str:
    """`configs/ray.yaml` with the spec's values filled in."""
    content = yaml.safe_load((importlib.resources.files("jobs") / "configs" / "ray.yaml").read_text(encoding="utf-8"))
    if spec.checkpoint_options():
        content["checkpoints"] = spec.checkpoint_options()
    content["trainer"]["accelerator"] = "gpu" if spec.gpus_per_worker else "cpu"
    return str(yaml.safe_dump(content))


def environment(spec: JobSpec) -> dict[str, str]:
    """The environment variables of the driver and of every train worker."""
    threads = str(spec.threads)
    variables = {
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",  # 2 s, the default, loses a checkpoint reported before a crash
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": str(spec.start_timeout_s),
        "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",  # with it every line printed by a rank appears twice
        "RAY_COLOR_PREFIX": "0",  # the log is a file
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "RAY_JOB_STOP_WAIT_TIME_S": str(spec.stop_timeout_s),
    }
    if spec.wandb_mode != "auto":
        variables["WANDB_MODE"] = spec.wandb_mode
    return variables | spec.env


def _complete_spec(spec: JobSpec, args: Sequence[str], origin: Path) -> JobSpec:
    """The spec with a name, and with an absolute storage path."""
    storage = spec.storage_path
    if "://" not in storage:
        storage = os.path.normpath(origin / Path(storage).expanduser())
    return dataclasses.replace(spec, name=spec.name or _default_name(args), storage_path=storage)


def _default_name(args: Sequence[str]) -> str:
    """The default name of a run: the file name of the last config, else the verb, and the time."""
    configs = [arg.partition("=")[2] for arg in args if arg.partition("=")[0] in CONFIG_FLAGS and "=" in arg]
    configs += [value for flag, value in itertools.pairwise(args) if flag in CONFIG_FLAGS]
    stem = Path(configs[-1]).stem if configs else args[0]
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in stem).strip("-")
    return f"{plain or 'job'}-{time.strftime('%Y%m%d-%H%M%S')}"


def _check_unfinished(job: Job, staged: Path) -> None:
    """Call `JobRecord.check` if this machine sees the run's folder; otherwise the driver does so.

    A URI is left to the driver too, because the nodes have its credentials.
    """
    if "://" not in job.spec.storage_path:
        with contextlib.suppress(OSError):
            JobRecord(job.spec.storage_path, str(job.spec.name)).check(job, staged)


def _check_name_is_free(client: JobSubmissionClient, spec: JobSpec) -> None:
    for each in list_jobs(client):
        metadata = each.metadata or {}
        is_same = (metadata.get("name"), metadata.get("storage_path")) == (spec.name, spec.storage_path)
        if is_same and not each.status.is_terminal():
            raise ValueError(
                f"name={spec.name}: the job {each.submission_id} is writing to {spec.storage_path}/{spec.name}; "
                f"give another --name, or end it with `python -m jobs stop {each.submission_id}`"
            )
