"""Loggers of a run: metrics.csv, and the private interface of WandbLogger that is used."""

import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning.loggers import WandbLogger

from pipeline.training.metrics_csv import MetricsFile, read_metrics
from pipeline.training.wandb_internals import continue_wandb_run, is_offline_logger


def steps(path):
    return [int(row["step"]) for row in read_metrics(path)]


def test_values_of_one_step_come_into_one_row_and_new_columns_lose_nothing(tmp_path):
    file = MetricsFile(tmp_path / "run" / "metrics.csv")
    file.add(10, {"epoch": 0, "train/loss": 2.5, "lr": 0.1})
    file.add(10, {"clips_per_s": 30.25})
    file.add(20, {"epoch": 0, "train/loss": 0.1 + 0.2})
    file.add(20, {"val/top1": 0.5})
    file.add(20, {"lr": 1e-9})
    rows = read_metrics(file.path)
    assert [row["step"] for row in rows] == ["10", "20"]
    assert rows[0] | {"train/loss": "2.5", "clips_per_s": "30.25", "lr": "0.1", "val/top1": ""} == rows[0]
    assert rows[1] | {"train/loss": "0.3", "val/top1": "0.5", "lr": "1e-09"} == rows[1]
    assert file.path.read_text().splitlines()[0].startswith("step,epoch,samples,seconds,attempt,")


def test_rows_of_steps_that_are_taken_again_are_dropped(tmp_path):
    path = tmp_path / "metrics.csv"
    first = MetricsFile(path)
    for step in range(1, 8):
        first.add(step, {"train/loss": step})
    second = MetricsFile(path, after=4)
    assert second.dropped == 3
    assert steps(path) == [1, 2, 3, 4]
    second.add(5, {"train/loss": 50})
    assert [row["train/loss"] for row in read_metrics(path)] == ["1", "2", "3", "4", "50"]


def test_the_row_of_the_step_resumed_at_stays(tmp_path):
    first = MetricsFile(tmp_path / "metrics.csv")
    first.add(4, {"train/loss": 1})
    MetricsFile(tmp_path / "metrics.csv", after=4).add(5, {"train/loss": 2})
    assert steps(tmp_path / "metrics.csv") == [4, 5]


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 400), junk=st.sampled_from([b"", b"\0\0\0", b"\xff,,", b"9,1\n", b'"', b"\n\n"]))
def test_a_file_that_was_cut_anywhere_is_read_and_goes_on(tmp_path_factory, cut, junk):
    path = tmp_path_factory.mktemp("cut") / "metrics.csv"
    file = MetricsFile(path)
    for step in range(1, 11):
        file.add(step, {"train/loss": step / 3, "lr": 0.1})
    content = path.read_bytes()
    path.write_bytes(content[:cut] + junk)
    whole = content[:cut].count(b"\n") - 1
    assert steps(path)[: max(0, whole)] == list(range(1, whole + 1))
    again = MetricsFile(path, after=10)
    again.add(11, {"train/loss": 4.0})
    assert steps(path)[-1] == 11
    assert len(set(steps(path))) == len(steps(path))


WRITER = """
import sys
from pathlib import Path
from pipeline.training.metrics_csv import MetricsFile
file = MetricsFile(Path(sys.argv[1]))
for step in range(1, 10**9):
    file.add(step, {"a": step * 1.1})
    file.add(step, {f"b{step // 50}": 2.0})
    if step == 20:
        print("going", flush=True)
"""


@pytest.mark.parametrize("attempt", range(3))
def test_a_kill_at_any_moment_leaves_whole_rows(tmp_path, attempt):
    path = tmp_path / "metrics.csv"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
    writer.stdout.readline()
    while len(steps(path)) < 40 * (attempt + 1):
        assert writer.poll() is None
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    found = steps(path)
    assert found == list(range(1, len(found) + 1))
    assert all(row["a"] for row in read_metrics(path))


@pytest.mark.parametrize(("named", "run_id"), [(None, "new00000"), ("own00000", "own00000")])
def test_a_logger_goes_on_with_a_run(tmp_path, monkeypatch, named, run_id):
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger(save_dir=tmp_path, offline=True, id=named, resume=None)
    assert is_offline_logger(logger)
    assert continue_wandb_run(logger, "new00000") == logger.version == run_id
    run = logger.experiment
    try:
        assert (run.id, run.settings.resume) == (run_id, "allow")
    finally:
        run.finish()
