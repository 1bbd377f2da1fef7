"""A run's folder: what is left behind."""

import json
import math
from pathlib import Path

import pytest

from jobs.results import RunFolder, fingerprint, one_line
from jobs.worker import _Kept


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
    folder.add_failure({"time": 5.0, "reason": "Old"})
    folder.add_failure({"time": 9.0, "reason": "New"})
    assert folder.failure_lines("Lost", f"{tmp_path}/a/checkpoints/step-2.ckpt", since=8) == [
        "error: New",
        f"newest checkpoint: {tmp_path}/a/checkpoints/step-2.ckpt",
        "to go on from it: python -m jobs resume a",
    ]


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
