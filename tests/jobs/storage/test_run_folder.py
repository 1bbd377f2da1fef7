"""A run's folder: what is left behind."""

import json
from pathlib import Path

from jobs.client.run_status import run_progress
from jobs.storage.run_folder import RunFolder, command_digest, describe_exception
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_store import CheckpointStore
from pipeline.processes.outcome import ProcessOutcome
from pipeline.training.metrics_csv import MetricsFile
from tests.pipeline.checkpoints.test_checkpoint_store import weights


def test_finish_says_where_the_checkpoints_are(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), "a")
    store = CheckpointStore(folder.storage, CheckpointOptions())
    store.begin(0)
    for step, score in ((1, 0.9), (2, float("nan"))):
        store.save(weights(step), step, {"step": step, "val/top1": score})
    folder.add_failure({"time": 5.0, "reason": "Killed: rank 1"})
    folder.finish(folder.checkpoints().publish(), facts={"fingerprint": "f"})
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    assert result["metrics"] == {"best": {"step": 1, "val/top1": 0.9}, "last": {"step": 2}}, "JSON has no NaN"
    assert result["failures"] == ["Killed: rank 1"]
    assert folder.last_lines() == [
        f"best checkpoint: {tmp_path}/a/best.ckpt",
        f"last checkpoint: {tmp_path}/a/last.ckpt",
        f"result: {tmp_path}/a/result.json",
    ]
    assert not list((tmp_path / "a").glob(".*")), "nothing is left aside"


def test_a_run_that_saved_nothing(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), "a")
    folder.finish({}, facts={})
    assert folder.last_lines() == [f"result: {tmp_path}/a/result.json"]


def test_the_outcome_of_a_run_that_failed(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), "a")
    assert folder.failure_outcome("Lost", None, since=0) == ProcessOutcome("failed", "Lost", 1)
    folder.add_failure({"time": 5.0, "reason": "Old", "refused": True})
    folder.add_failure({"time": 9.0, "reason": "New", "refused": False})
    newest = f"{tmp_path}/a/checkpoints/step-2.ckpt"
    assert folder.failure_outcome("Lost", newest, since=8) == ProcessOutcome(
        "failed", "New", 1, newest, "python -m jobs resume a"
    )
    folder.add_failure({"time": 10.0, "reason": "No such option", "refused": True})
    assert folder.failure_outcome("Lost", None, since=8).kind == "refused"


def test_a_fingerprint_changes_with_the_config(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("a: 1")
    first = command_digest(["fit"], [config])
    assert first == command_digest(["fit"], [config])
    assert first != command_digest(["fit", "--x"], [config])
    config.write_text("a: 2")
    assert first != command_digest(["fit"], [config])


def test_one_line_of_a_long_error() -> None:
    assert describe_exception(ValueError("Traceback\n  line 3\nthe reason\n")) == "ValueError: the reason"
    assert describe_exception(KeyError()) == "KeyError: "


def test_how_far_a_run_is(tmp_path: Path) -> None:
    assert run_progress(None, None) == {}
    assert run_progress("s3://bucket/runs", "a") == {"run folder": "s3://bucket/runs/a"}
    store = CheckpointStore(RunFolder(str(tmp_path), "a").storage, CheckpointOptions())
    store.begin(0)
    for step in (20, 28):
        store.save(lambda path: path.write_bytes(b"x"), step, {})
    checkpoint = f"step 28, {tmp_path}/a/checkpoints/step-00000028.ckpt"
    known = {"run folder": f"{tmp_path}/a", "checkpoint": checkpoint}
    assert run_progress(str(tmp_path), "a") == known | {"step": "28"}
    MetricsFile(tmp_path / "a" / "metrics.csv").add(33, {"train/loss": 0.5})
    assert run_progress(str(tmp_path), "a") == known | {"step": "33"}
