"""How a job ended: in its record, and in its log where that is all there is."""

from pathlib import Path

import pytest
from ray.dashboard.modules.job.pydantic_models import JobDetails, JobType
from ray.job_submission import JobStatus

from jobs.client.job_server import split_message
from jobs.client.run_status import find_outcome
from jobs.spec.job import Job
from jobs.spec.job_spec import JobSpec
from jobs.storage.job_outcome import (
    OUTCOME_PREFIX,
    OutcomeLineFilter,
    describe_outcome,
    format_outcome,
    hide_outcome,
    parse_outcome,
)
from jobs.storage.job_record import JobRecord
from pipeline.processes.outcome import ProcessOutcome

FAILED = ProcessOutcome("failed", "rank 1 was lost", 1, "/runs/a/step-2.ckpt", "python -m jobs resume a")
LAST_LINES = [
    "error: rank 1 was lost",
    "newest checkpoint: /runs/a/step-2.ckpt",
    "to go on from it: python -m jobs resume a",
]


def test_the_last_lines_of_a_log_and_the_line_of_json() -> None:
    assert describe_outcome(FAILED) == LAST_LINES
    assert describe_outcome(ProcessOutcome("stopped", "stopped after step 2", 143)) == ["stopped after step 2"]
    assert describe_outcome(ProcessOutcome("failed", exit_status=3)) == ["error: exit status 3"]
    assert describe_outcome(ProcessOutcome("finished", "a\nb")) == ["a", "b"]
    log = "\n".join(["step 1", "error: once, and retried", format_outcome(FAILED), *LAST_LINES, ""])
    assert parse_outcome(log) == FAILED
    assert hide_outcome(log).splitlines() == ["step 1", "error: once, and retried", *LAST_LINES]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_line_of_json_is_hidden_from_a_log_in_pieces(size: int) -> None:
    for end in ("\n", "", "\njob", "\njob outcome: [", f"\n{OUTCOME_PREFIX}"):
        log = f"job A\n{format_outcome(FAILED)}\nlast line{end}"
        outcome_filter = OutcomeLineFilter()
        shown = [outcome_filter.filter(log[start : start + size]) for start in range(0, len(log), size)]
        assert "".join(shown) + outcome_filter.rest() == f"job A\nlast line{end.removesuffix(OUTCOME_PREFIX)}"


@pytest.mark.parametrize(
    ("log", "reason"),
    [(["TRAINS", format_outcome(FAILED), *LAST_LINES], LAST_LINES[:1]), (["TRAINS", "Killed"], ["Killed"]), ([], [])],
)
def test_the_log_is_read_where_there_is_no_record(log: list[str], reason: list[str]) -> None:
    reason_of_ray = "Job entrypoint command failed with exit code 1"
    message = f"{reason_of_ray}, last available logs (truncated to 20,000 chars):\n" + "\n".join(log)
    job = JobDetails(type=JobType.SUBMISSION, entrypoint="x", status=JobStatus.FAILED, message=message)
    first, rest = split_message(job)
    outcome = find_outcome(job, rest)
    assert first == reason_of_ray
    assert (describe_outcome(outcome)[:1] if outcome else []) == reason


def test_the_record_of_the_very_job_comes_before_the_log(tmp_path: Path) -> None:
    (tmp_path / "upload").mkdir()
    record = JobRecord(str(tmp_path), "a")
    record.create(Job(JobSpec(name="a", storage_path=str(tmp_path)), "/origin", ("fit",), "fit"), tmp_path, "a-0001")
    metadata = {"name": "a", "storage_path": str(tmp_path)}

    def outcome(job_id: str) -> ProcessOutcome | None:
        job = JobDetails(
            type=JobType.SUBMISSION,
            entrypoint="x",
            status=JobStatus.FAILED,
            submission_id=job_id,
            metadata=metadata,
        )
        return find_outcome(job, "Killed")

    assert outcome("a-0001") == ProcessOutcome("stopped", "Killed"), "its driver was killed: nothing is recorded"
    record.add_outcome(FAILED)
    assert outcome("a-0001") == FAILED
    assert outcome("a-0002") == ProcessOutcome("stopped", "Killed"), "the record is that of an earlier job"
