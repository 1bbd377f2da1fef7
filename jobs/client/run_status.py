"""Progress of a run and outcome of its job, read from the run's folder if this machine sees it."""

import contextlib
from pathlib import Path

from ray.dashboard.modules.job.pydantic_models import JobDetails
from ray.job_submission import JobStatus

from jobs.storage.job_outcome import parse_outcome
from jobs.storage.job_record import JobRecord
from jobs.storage.run_folder import RunFolder
from jobs.storage.search_record import SearchRecord, rank_trials
from jobs.storage.trial_table import count_states
from pipeline.processes.outcome import ProcessOutcome
from pipeline.training.metrics_csv import METRICS_NAME, read_metrics


def find_outcome(job: JobDetails, log: str) -> ProcessOutcome | None:
    """Find out how a job ended, from the record in its run's folder, else from its log.

    Only the log is left if the driver was killed, or if this machine does not see the folder. A URI is not read:
    it may not answer from this machine.

    Args:
        job: The details of the job, from the cluster.
        log: The log of the job, or its end.

    Returns:
        The outcome; None if the job has not ended, or its outcome is unknown.
    """
    if not job.status.is_terminal():
        return None
    metadata = job.metadata or {}
    storage, name = metadata.get("storage_path"), metadata.get("name")
    if storage is not None and name is not None and "://" not in storage:
        with contextlib.suppress(OSError, ValueError):  # not seen from here, or damaged
            recorded = JobRecord(storage, name).outcome(str(job.submission_id))
            if recorded is not None:
                return recorded
    return None if job.status == JobStatus.SUCCEEDED else parse_outcome(log)


def run_progress(storage_path: str | None, name: str | None) -> dict[str, str]:
    """Read the progress of a run from its folder.

    Args:
        storage_path: The absolute folder that holds the run's folder; a URI is not read, because it may not answer from
            this machine. None: unknown.
        name: The name of the run; None: unknown.

    Returns:
        As far as they are known: `run folder`; `step`, the number of optimizer steps done, from the last row of
        metrics.csv or the newest checkpoint; `checkpoint`, the step and the address of the newest checkpoint. Of a
        search `trials`, how many are in which state, and `best`.
    """
    if storage_path is None or name is None:
        return {}
    progress = {"run folder": f"{storage_path}/{name}"}
    if "://" in storage_path:
        return progress
    with contextlib.suppress(OSError, ValueError):  # not seen from here, or damaged
        progress |= _search_progress(SearchRecord(storage_path, name))
    steps = []
    with contextlib.suppress(OSError):  # not there, or not seen from here
        store = RunFolder(storage_path, name).checkpoints()
        for newest in store.list_checkpoints()[-1:]:
            steps.append(newest.step)
            progress["checkpoint"] = f"step {newest.step}, {store.address(newest)}"
    with contextlib.suppress(OSError):
        steps += [int(row["step"]) for row in read_metrics(Path(progress["run folder"]) / METRICS_NAME)[-1:]]
    return {"step": str(max(steps)), **progress} if steps else progress


def _search_progress(record: SearchRecord) -> dict[str, str]:
    space = record.read_space()
    if space is None:
        return {}
    trials = record.read_trials(space)
    progress = {"trials": count_states(trials, space)}
    for best in rank_trials(trials, space)[:1]:
        value = best.best_value(space)
        progress |= {} if value is None else {"best": f"trial {best.number}, {space.metric} {value:.4g}"}
    return progress
