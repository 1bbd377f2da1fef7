"""A run's folder: what is left behind."""

import json
import math
from pathlib import Path

import pytest
from ray.dashboard.modules.job.pydantic_models import JobDetails, JobType
from ray.job_submission import JobStatus

from jobs.client.job_server import last_error_line
from jobs.client.run_status import run_progress
from jobs.storage.checkpoint_store import CheckpointStore
from jobs.storage.run_folder import RunFolder, fingerprint, one_line, resume_hints
from jobs.training.worker import _Kept
from pipeline.training.metrics_csv import MetricsFile


def test_finish_publishes_best_and_last(tmp_path: Path) -> None:
    run = tmp_path / "a"
    run.mkdir()
    paths = [run / f"step-{n}.ckpt" for n in (1, 2, 3)]
    for path in paths:
        path.write_text(f"weights of {path.name}")
    chosen = {
        "best": (str(paths[1]), {"step": 1, "m": 0.9}),
        "last": (str(paths[2]), {"step": 2, "m": math.nan}),
    }
    folder = RunFolder(str(tmp_path), "a")
    folder.add_failure({"time": 5.0, "reason": "Killed: rank 1"})
    folder.finish(chosen, facts={"fingerprint": "f"})
    assert (run / "best.ckpt").read_text() == "weights of step-2.ckpt"
    assert (run / "last.ckpt").read_text() == "weights of step-3.ckpt"
    result = json.loads((run / "result.json").read_text())
    assert result["metrics"]["last"] == {"step": 2, "m": None}, "JSON has no NaN"
    assert result["failures"] == ["Killed: rank 1"]
    assert folder.last_lines()[0] == f"best checkpoint: {run}/best.ckpt"
    assert not list(run.glob(".*")), "nothing is left aside"
    folder.finish({"last": chosen["best"]}, facts={})
    assert (run / "last.ckpt").read_text() == "weights of step-2.ckpt", "a second time replaces"


def test_a_run_that_saved_nothing(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), "a")
    folder.finish({}, facts={})
    assert folder.last_lines() == [f"result: {tmp_path}/a/result.json"]


def test_failure_lines_name_the_newest_checkpoint(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), "a")
    assert folder.failure_lines("Lost", None, since=0) == ["error: Lost"]
    assert resume_hints("TRAINS from step 0\nstopped\n") == []
    folder.add_failure({"time": 5.0, "reason": "Old"})
    folder.add_failure({"time": 9.0, "reason": "New"})
    lines = folder.failure_lines("Lost", f"{tmp_path}/a/checkpoints/step-2.ckpt", since=8)
    assert lines == [
        "error: New",
        f"newest checkpoint: {tmp_path}/a/checkpoints/step-2.ckpt",
        "to go on from it: python -m jobs resume a",
    ]
    assert resume_hints("\n".join(["step 1", *lines, ""])) == lines[1:], "what `stop` finds at the end of the log"


def test_a_fingerprint_changes_with_the_config(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("a: 1")
    first = fingerprint(["fit"], [config])
    assert first == fingerprint(["fit"], [config])
    assert first != fingerprint(["fit", "--x"], [config])
    config.write_text("a: 2")
    assert first != fingerprint(["fit"], [config])


def test_one_line_of_a_long_error() -> None:
    assert one_line(ValueError("Traceback\n  line 3\nthe reason\n")) == "ValueError: the reason"
    assert one_line(KeyError()) == "KeyError: "


@pytest.mark.parametrize("failed", [True, False])
def test_the_reason_is_left_to_the_jobs_last_line(failed: bool, capfd: pytest.CaptureFixture[str]) -> None:
    stderr = _Kept()
    for text in ("warning: a\n", "er", "rands 50%\r", "error: fps=0: must", " be more\nnote: b\n", "\n"):
        stderr.write(text)
    assert stderr.finish(failed=failed) == (["error: fps=0: must be more"] if failed else [])
    said = capfd.readouterr().err
    assert said.startswith("warning: a\nerrands 50%\r")
    assert ("error: fps=0: must be more\n" in said) is not failed, "printed where it is not the job's own"


def test_where_there_is_no_error_the_last_line_is_the_reason() -> None:
    stderr = _Kept()
    stderr.write("usage: x\nkilled\n\n")
    assert stderr.finish(failed=True) == ["killed"]


def test_how_far_a_run_is(tmp_path: Path) -> None:
    assert run_progress(None, None) == {}
    assert run_progress("s3://bucket/runs", "a") == {"run folder": "s3://bucket/runs/a"}
    store = CheckpointStore(RunFolder(str(tmp_path), "a"), 2, "val/top1", "max")
    store.create()
    for step in (20, 28):
        store.save(lambda path: path.write_bytes(b"x"), step, {})
    checkpoint = f"step 28, {tmp_path}/a/checkpoints/step-0000000028.ckpt"
    known = {"run folder": f"{tmp_path}/a", "checkpoint": checkpoint}
    assert run_progress(str(tmp_path), "a") == known | {"step": "28"}
    MetricsFile(tmp_path / "a" / "metrics.csv").add(33, {"train/loss": 0.5})
    assert run_progress(str(tmp_path), "a") == known | {"step": "33"}


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (["TRAINS", "error: Lost", "newest checkpoint: x", "to go on from it: y"], "error: Lost"),
        (["TRAINS", "Killed"], "Killed"),
        ([], ""),
    ],
)
def test_the_reason_is_found_in_what_ray_says(log: list[str], reason: str) -> None:
    said = "Job entrypoint command failed with exit code 1"
    message = f"{said}, last available logs (truncated to 20,000 chars):\n" + "\n".join(log)
    job = JobDetails(type=JobType.SUBMISSION, entrypoint="x", status=JobStatus.FAILED, message=message)
    assert last_error_line(job) == (said, reason)
