"""How far a run is and how its job ended, from the run's folder where this machine sees that."""

import contextlib
from pathlib import Path

from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.job_submission import JobStatus

from jobs.storage.job_outcome import outcome_in_log
from jobs.storage.job_record import Submission
from jobs.storage.run_folder import RunFolder
from pipeline.processes.outcome import ProcessOutcome
from pipeline.training.metrics_csv import NAME, read_metrics


def job_outcome(job: JobDetails, log: str) -> ProcessOutcome | None:
    """How a job ended, from the record in its run's folder, else from its log.

    The log is all there is where the driver was killed, or where this machine does not see the folder. A URI is not
    looked into, for it may not answer from here.

    Args:
        job: What the cluster knows of it.
        log: Its log, or the end of it.

    Returns:
        None for a job that has not ended, and for one of which nothing is known.
    """
    if not job.status.is_terminal():
        return None
    metadata = job.metadata or {}
    storage, name = metadata.get("storage_path"), metadata.get("name")
    if storage is not None and name is not None and "://" not in storage:
        with contextlib.suppress(OSError, ValueError):  # not seen from here, or damaged
            recorded = Submission(storage, name).outcome(str(job.submission_id))
            if recorded is not None:
                return recorded
    return None if job.status == JobStatus.SUCCEEDED else outcome_in_log(log)


def run_progress(storage_path: str | None, name: str | None) -> dict[str, str]:
    """Look into a run's folder.

    Args:
        storage_path: An absolute folder; a URI is not looked into, for it may not answer from here. None: not known.
        name: The run's name; None: not known.

    Returns:
        What is known of: `run folder`; `step`, the optimizer steps done, by the last row of metrics.csv or by the
        newest checkpoint; `checkpoint`, that one, with its step.
    """
    if storage_path is None or name is None:
        return {}
    known = {"run folder": f"{storage_path}/{name}"}
    if "://" in storage_path:
        return known
    steps = []
    with contextlib.suppress(OSError):  # not there, or not seen from here
        store = RunFolder(storage_path, name).checkpoints()
        for newest in store.saved()[-1:]:
            steps.append(newest.step)
            known["checkpoint"] = f"step {newest.step}, {store.address(newest)}"
    with contextlib.suppress(OSError):
        steps += [int(row["step"]) for row in read_metrics(Path(known["run folder"]) / NAME)[-1:]]
    return {"step": str(max(steps)), **known} if steps else known
