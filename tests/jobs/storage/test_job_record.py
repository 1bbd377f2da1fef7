"""The record of a job in its run's folder, and what this machine remembers of what was submitted."""

import dataclasses
import json
from pathlib import Path

import pytest

from jobs.__main__ import main
from jobs.client.local_state import (
    MAX_SUBMISSIONS,
    SubmissionRecord,
    record_submission,
    recorded_submissions,
    state_folder,
)
from jobs.spec.job import JOB_FILE, Job
from jobs.spec.job_spec import JobSpec
from jobs.storage.finished_run import RunFinishedError, command_fingerprint
from jobs.storage.job_record import CODE_FILE, RECORD_FILE, JobRecord
from jobs.storage.run_folder import RunFolder
from jobs.submission.resume import resume
from jobs.submission.submit import prepare_job
from pipeline.processes.outcome import ProcessOutcome


def job_in(storage: Path, *args: str) -> Job:
    return Job(JobSpec(name="a", storage_path=str(storage), num_workers=2), "/origin", args, " ".join(args), check=True)


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    folder = tmp_path / "upload"
    (folder / "pipeline" / "__pycache__").mkdir(parents=True)
    (folder / "pipeline" / "a.py").write_text("x = 1")
    (folder / "pipeline" / "__pycache__" / "a.pyc").write_bytes(b"b")
    job_in(tmp_path, "fit").write(folder)
    return folder


def test_what_travelled_comes_back(upload: Path, tmp_path: Path) -> None:
    job = job_in(tmp_path / "runs", "fit", "--config", "upload:c.yaml")
    JobRecord(str(tmp_path / "runs"), "a").create(job, upload)
    (tmp_path / "back").mkdir()
    assert JobRecord(str(tmp_path / "runs"), "a").unpack(tmp_path / "back") == job
    back = {path.relative_to(tmp_path / "back").as_posix() for path in (tmp_path / "back").rglob("*") if path.is_file()}
    assert back == {"pipeline/a.py", JOB_FILE}


def test_the_name_of_a_run_of_another_verb_is_refused(upload: Path, tmp_path: Path) -> None:
    record = JobRecord(str(tmp_path), "a")
    record.create(job_in(tmp_path, "fit"), upload)
    record.create(job_in(tmp_path, "fit", "--config", "other"), upload)
    with pytest.raises(ValueError, match=r"name=a: this is a run of `fit`, in .*/a; give `evaluate` another --name"):
        record.create(job_in(tmp_path, "evaluate"), upload)


def test_a_finished_one_says_so(upload: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBS_STATE_DIR", str(tmp_path / "state"))
    record = JobRecord(str(tmp_path), "a")
    record.create(job_in(tmp_path, "features"), upload)
    record.add_outcome(ProcessOutcome("finished"))
    resumed = resume("a", storage_path=str(tmp_path))
    assert (resumed.job_id, resumed.lines) == (None, ["a has finished already; there is nothing to do"])


@pytest.mark.parametrize(("name", "content"), [(RECORD_FILE, b"{"), (CODE_FILE, b"no zip")])
def test_a_damaged_record_is_one_sentence(upload: Path, tmp_path: Path, name: str, content: bytes) -> None:
    record = JobRecord(str(tmp_path), "a")
    record.create(job_in(tmp_path, "fit"), upload)
    (tmp_path / "a" / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"a/{name} cannot be read: it is damaged"):
        record.unpack(tmp_path / "back")


def test_what_nobody_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ValueError, match=r"holds no record of a job.*submit the same command again with --name b"):
        resume("b", storage_path=str(tmp_path))
    with pytest.raises(ValueError, match="no job is known, on the cluster or on this machine"):
        resume(None)
    with pytest.raises(ValueError, match="name the run in it"):
        resume(None, storage_path=str(tmp_path))


def test_what_was_submitted_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBS_STATE_DIR", str(tmp_path / "state"))
    one = SubmissionRecord("a-0123", "a", "/runs", "http://head:8265", 1.0)
    lines = [json.dumps(dataclasses.asdict(one))] * MAX_SUBMISSIONS
    (state_folder() / "submissions.jsonl").write_text("\n".join([*lines, "half a li"]))
    record_submission(dataclasses.replace(one, name="b"))
    known = recorded_submissions()
    assert (len(known), known[-1].name) == (MAX_SUBMISSIONS, "b")


def finish(job: Job, upload: Path) -> dict[Path, bytes]:
    """Record a run as begun and finished; returns what its folder holds."""
    record = JobRecord(job.spec.storage_path, str(job.spec.name))
    record.create(job, upload)
    facts = {"command": f"python -m pipeline {job.command}", "fingerprint": command_fingerprint(job.args, upload)}
    record.run.finish({}, facts=facts)
    record.add_outcome(ProcessOutcome("finished"))
    return files_of(record.run)


def files_of(run: RunFolder) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in Path(run.address).iterdir()}


def test_the_record_of_a_finished_run_stays(upload: Path, tmp_path: Path) -> None:
    record = JobRecord(str(tmp_path / "runs"), "a")
    before = finish(job_in(tmp_path / "runs", "fit", "--x", "1"), upload)
    with pytest.raises(ValueError, match=r"in .*/runs/a has finished, with another command .*pipeline fit --x 1\)"):
        record.create(job_in(tmp_path / "runs", "fit", "--x", "2"), upload)
    with pytest.raises(RunFinishedError, match="there is nothing to do"):
        record.create(job_in(tmp_path / "runs", "fit", "--x", "1"), upload)
    assert files_of(record.run) == before


def test_a_finished_name_is_answered_before_anything_is_sent(
    submit_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", "--config", "mine.yaml"]
    with prepare_job(JobSpec(name="a"), arguments, read_config=False) as (job, staged):
        before = finish(job, staged)
    submit = ["submit", "--name", "a", "--"]
    assert main([*submit, *arguments]) == 0
    printed = capsys.readouterr()
    assert "this run has finished already; there is nothing to do" in printed.out
    assert f"result: {submit_folder}/runs/a/result.json" in printed.out
    assert main([*submit, *arguments, "--trainer.max_epochs", "9"]) == 2
    assert "has finished, with another command or config (python -m pipeline fit --config mine.yaml)" in (
        capsys.readouterr().err
    )
    (submit_folder / "mine.yaml").write_text("trainer: {}")
    assert main([*submit, *arguments]) == 2, "the same arguments, another config"
    assert main([*submit, "evaluate"]) == 2
    assert "this is a run of `fit`" in capsys.readouterr().err
    assert files_of(RunFolder(str(submit_folder / "runs"), "a")) == before
    assert not (submit_folder / "state" / "cluster.json").exists(), "no cluster was started"
