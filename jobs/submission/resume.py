"""Resuming a stopped or failed job with the command, spec and code that were submitted.

They are stored in the run's folder (`jobs.storage.job_record`). The path of that folder comes from the caller, from the
cluster, or, if the cluster has been restarted, from this machine's record of the jobs that it submitted.
"""

import dataclasses
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ray.job_submission import JobSubmissionClient

from jobs.client.job_server import connect, list_jobs
from jobs.client.local_state import SubmissionRecord, recorded_submissions
from jobs.storage.job_record import JobRecord
from jobs.submission.submit import submit_job


@dataclasses.dataclass(frozen=True)
class ResumeResult:
    """The result of `resume`.

    Attributes:
        client: The client of the cluster; None if the run had finished already.
        job_id: The id of the new job; None if the run had finished already.
        lines: The lines to print for the user.
    """

    client: JobSubmissionClient | None
    job_id: str | None
    lines: Sequence[str]


def resume(job_name: str | None, *, storage_path: str | None = None, address: str | None = None) -> ResumeResult:
    """Submit a stopped or failed job again.

    Args:
        job_name: The job's id, or its run's name; None: the newest job.
        storage_path: The folder that holds the run's folder; needed only if neither the cluster nor this machine has a
            record of the job.
        address: The address of the cluster; None: the one that `submit` would use.

    Returns:
        The new job, or the last lines of a run that has finished.

    Raises:
        ValueError: there is no such job, it is running, or its run's folder has no record.
        ConnectionError: the cluster cannot be reached.
    """
    name, storage = find_run(job_name, storage_path, address)
    record = JobRecord(storage, name)
    recorded = record.read()
    if recorded is None:
        raise ValueError(
            f"{record.run.address} holds no record of a job: it ended before it began, or this machine does not "
            f"see that folder; submit the same command again with --name {name}, which continues the run"
        )
    outcome = record.outcome()
    if outcome is not None and outcome.kind == "finished":
        lines = record.run.last_lines() if record.run.read_result() else []
        return ResumeResult(None, None, [f"{name} has finished already; there is nothing to do", *lines])
    with tempfile.TemporaryDirectory(prefix="arp-upload-") as folder:
        job = record.unpack(Path(folder))
        client, job_id = submit_job(job, Path(folder), address=address or job.spec.address)
    return ResumeResult(client, job_id, [f"resumed {name}: {job.command}", f"submitted {job_id}"])


def find_run(job_name: str | None, storage_path: str | None, address: str | None) -> tuple[str, str]:
    """Find the name and the storage path of a run.

    Args:
        job_name: The job's id, or its run's name; None: the newest job.
        storage_path: The folder that holds the run's folder; None: the one that the cluster or this machine recorded.
        address: The address of the cluster; None: the one that `submit` would use.

    Raises:
        ValueError: neither the cluster nor this machine knows the job.
    """
    if storage_path is not None:
        if job_name is None:
            raise ValueError("storage_path: name the run in it that is to be resumed")
        absolute = storage_path if "://" in storage_path else str(Path(storage_path).expanduser().absolute())
        return job_name, absolute
    records = [*_cluster_records(address), *reversed(recorded_submissions())]  # the newest first
    for each in sorted(records, key=lambda each: -each.time):
        if job_name in (None, each.job_id, each.name):
            return each.name, each.storage_path
    if not records:
        raise ValueError("no job is known, on the cluster or on this machine: give its name and --storage-path")
    names = ", ".join(dict.fromkeys(each.name for each in records[:5]))
    hint = "; its run's name and --storage-path find it" if re.search(r"-[0-9a-f]{4}$", job_name or "") else ""
    raise ValueError(f"job={job_name}: neither the cluster nor this machine knows it; known are: {names}{hint}")


def _cluster_records(address: str | None) -> list[SubmissionRecord]:
    """The jobs that the cluster has records of; empty if there is no cluster, or it was restarted."""
    try:
        client, server = connect(address)
    except ConnectionError:
        if address is not None:
            raise
        return []
    return [
        SubmissionRecord(
            str(each.submission_id),
            each.metadata["name"],
            each.metadata["storage_path"],
            server,
            (each.start_time or 0) / 1000,
        )
        for each in list_jobs(client)
        if each.metadata and {"name", "storage_path"} <= each.metadata.keys()
    ]
