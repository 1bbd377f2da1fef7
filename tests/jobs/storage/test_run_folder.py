"""A run's folder: what is left behind."""

import json
import math
from pathlib import Path

from jobs.client.run_status import run_progress
from jobs.storage.checkpoint_store import CheckpointStore
from jobs.storage.run_folder import RunFolder, command_digest, describe_exception
from pipeline.processes.outcome import ProcessOutcome
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


def test_the_outcome_of_a_run_that_failed(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path), "a")
    assert folder.failed("Lost", None, since=0) == ProcessOutcome("failed", "Lost", 1)
    folder.add_failure({"time": 5.0, "reason": "Old", "refused": True})
    folder.add_failure({"time": 9.0, "reason": "New", "refused": False})
    newest = f"{tmp_path}/a/checkpoints/step-2.ckpt"
    assert folder.failed("Lost", newest, since=8) == ProcessOutcome(
        "failed", "New", 1, newest, "python -m jobs resume a"
    )
    folder.add_failure({"time": 10.0, "reason": "No such option", "refused": True})
    assert folder.failed("Lost", None, since=8).kind == "refused"


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
    store = CheckpointStore(RunFolder(str(tmp_path), "a"), 2, "val/top1", "max")
    store.create()
    for step in (20, 28):
        store.save(lambda path: path.write_bytes(b"x"), step, {})
    checkpoint = f"step 28, {tmp_path}/a/checkpoints/step-0000000028.ckpt"
    known = {"run folder": f"{tmp_path}/a", "checkpoint": checkpoint}
    assert run_progress(str(tmp_path), "a") == known | {"step": "28"}
    MetricsFile(tmp_path / "a" / "metrics.csv").add(33, {"train/loss": 0.5})
    assert run_progress(str(tmp_path), "a") == known | {"step": "33"}
