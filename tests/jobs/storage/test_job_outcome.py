"""How a job ended: in its record, and in its log where that is all there is."""

from pathlib import Path

import pytest
from ray.dashboard.modules.job.pydantic_models import JobDetails, JobType
from ray.job_submission import JobStatus

from jobs.client.job_server import split_message
from jobs.client.run_status import job_outcome
from jobs.spec.job import Job
from jobs.spec.job_spec import JobSpec
from jobs.storage.job_outcome import describe_outcome, outcome_in_log
from jobs.storage.job_record import Submission
from pipeline.processes.outcome import ProcessOutcome

FAILED = ProcessOutcome("failed", "rank 1 was lost", 1, "/runs/a/step-2.ckpt", "python -m jobs resume a")
LAST_LINES = [
    "error: rank 1 was lost",
    "newest checkpoint: /runs/a/step-2.ckpt",
    "to go on from it: python -m jobs resume a",
]


def test_the_last_lines_of_a_log_say_it_and_are_read_back() -> None:
    assert describe_outcome(FAILED) == LAST_LINES
    assert describe_outcome(ProcessOutcome("stopped", "stopped after step 2", 143)) == ["stopped after step 2"]
    assert describe_outcome(ProcessOutcome("failed", exit_status=3)) == ["error: exit status 3"]
    assert describe_outcome(ProcessOutcome("finished", "a\nb")) == ["a", "b"]
    read = outcome_in_log("\n".join(["step 1", "error: once, and retried", *LAST_LINES, ""]))
    assert read == ProcessOutcome("failed", FAILED.message, 0, FAILED.checkpoint, FAILED.resume)


@pytest.mark.parametrize(
    ("log", "reason"),
    [(["TRAINS", *LAST_LINES], LAST_LINES[:1]), (["TRAINS", "Killed"], ["Killed"]), ([], [])],
)
def test_the_log_is_asked_where_there_is_no_record(log: list[str], reason: list[str]) -> None:
    said = "Job entrypoint command failed with exit code 1"
    message = f"{said}, last available logs (truncated to 20,000 chars):\n" + "\n".join(log)
    job = JobDetails(type=JobType.SUBMISSION, entrypoint="x", status=JobStatus.FAILED, message=message)
    first, rest = split_message(job)
    outcome = job_outcome(job, rest)
    assert first == said
    assert (describe_outcome(outcome)[:1] if outcome else []) == reason


def test_the_record_of_the_very_job_comes_before_the_log(tmp_path: Path) -> None:
    (tmp_path / "upload").mkdir()
    submission = Submission(str(tmp_path), "a")
    submission.begin(Job(JobSpec(name="a", storage_path=str(tmp_path)), "/origin", ("fit",), "fit"), tmp_path, "a-0001")
    metadata = {"name": "a", "storage_path": str(tmp_path)}

    def outcome(job_id: str) -> ProcessOutcome | None:
        job = JobDetails(
            type=JobType.SUBMISSION,
            entrypoint="x",
            status=JobStatus.FAILED,
            submission_id=job_id,
            metadata=metadata,
        )
        return job_outcome(job, "Killed")

    assert outcome("a-0001") == ProcessOutcome("stopped", "Killed"), "its driver was killed: nothing is recorded"
    submission.end(FAILED)
    assert outcome("a-0001") == FAILED
    assert outcome("a-0002") == ProcessOutcome("stopped", "Killed"), "the record is that of an earlier job"
