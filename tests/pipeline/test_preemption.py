"""SIGTERM in real runs: one process and two, the signal to one of them, in the middle of an epoch."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.pipeline.test_training import assert_same_weights, checkpoints, config, weights  # noqa: F401 # a fixture

WAIT_S = 100


def start(path: str, *words: str) -> subprocess.Popen[str]:
    """`fit` in a process group of its own."""
    line = [sys.executable, "-m", "pipeline", "fit", "--config", path, *words]
    return subprocess.Popen(line, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    """Until the run has written `path`."""
    deadline = time.monotonic() + WAIT_S
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, f"{path} was not written in {WAIT_S} s"
        time.sleep(0.01)


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and stderr; nothing of the group is left."""
    try:
        _, error = process.communicate(timeout=WAIT_S)
    finally:
        with_group(process, signal.SIGKILL)
    return process.returncode, error


def with_group(process: subprocess.Popen[str], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def child_of(process: subprocess.Popen[str]) -> int:
    """The process id of rank 1, which Lightning's launcher started with the same words."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for found in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            if b"\0fit\0" in Path(f"/proc/{found}/cmdline").read_bytes():
                return int(found)
        time.sleep(0.05)
    raise AssertionError("rank 1 was not started")


def sigterm_saver(folder: Path) -> dict[str, object]:
    return {"class_path": "pipeline.preemption.SaveOnSigterm", "init_args": {"dirpath": str(folder)}}


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_sigterm_saves_and_the_resumed_run_ends_as_if_undisturbed(config, tmp_path, ranks):  # noqa: F811
    trainer = {"max_epochs": 6, "devices": ranks, "strategy": "ddp" if ranks > 1 else "auto"}
    steps = tmp_path / "steps"
    process = start(config(trainer, callbacks=[checkpoints(steps), sigterm_saver(tmp_path / "left")]))
    wait_for(steps / "step=3.ckpt", process)
    os.kill(process.pid if ranks == 1 else child_of(process), signal.SIGTERM)  # to one rank alone, not to the first
    status, error = end(process)
    assert status == 128 + signal.SIGTERM, error
    [left] = (tmp_path / "left").iterdir()
    last = max(steps.iterdir(), key=lambda path: int(path.stem.removeprefix("step=")))
    assert int(left.stem.removeprefix("step-")) == int(last.stem.removeprefix("step=")) < 60 // ranks
    resumed = start(config(trainer, callbacks=[checkpoints(tmp_path / "resumed")]), "--ckpt_path", str(left))
    whole = start(config(trainer, callbacks=[checkpoints(tmp_path / "whole")]))
    for run in (resumed, whole):
        status, error = end(run)
        assert status == 0, error
    name = f"step={60 // ranks}.ckpt"
    assert_same_weights(weights(tmp_path / "resumed" / name), weights(tmp_path / "whole" / name))
