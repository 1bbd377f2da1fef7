"""SIGTERM in real runs: one process and two, the signal to one of them, in the middle of an epoch."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.__main__ import main
from tests.pipeline.training.test_lightning_cli import assert_same_weights, checkpoints, weights
from tests.pipeline.training.test_run import config  # noqa: F401 # a fixture

WAIT_S = 250


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
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, error


def leave(step: int, rank: int = 0, number: int = signal.SIGTERM) -> dict[str, object]:
    settings = {"step": step, "rank": rank, "number": int(number)}
    return {"class_path": "tests.pipeline.training.fault_injection.AskToLeave", "init_args": settings}


@pytest.mark.parametrize(
    ("accumulate", "number", "what"),
    [(1, signal.SIGINT, "interrupted"), (2, signal.SIGTERM, "SIGTERM: the run was asked to leave")],
)
def test_a_signal_saves_at_the_end_of_the_step_and_the_run_goes_on(
    config,  # noqa: F811
    tmp_path,
    capsys,
    accumulate,
    number,
    what,
):
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    trainer = {"max_epochs": 1, "accumulate_grad_batches": accumulate}
    path = config("left", trainer=trainer | {"callbacks": [leave(3, number=number)]})
    assert main(["fit", "--config", path]) == 128 + number
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: {what}; stopped at step 4 in epoch 0; the newest")
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
    assert [one.name for one in (tmp_path / "left/checkpoints").glob("step*")] == ["step-00000004.ckpt"]
    assert main(["fit", "--config", path, "--ckpt_path", "last"]) == 0
    assert main(["fit", "--config", config("whole", trainer=trainer)]) == 0
    name = f"checkpoints/step-{10 // accumulate:08d}.ckpt"
    assert_same_weights(weights(tmp_path / "left" / name), weights(tmp_path / "whole" / name))


def test_sigterm_saves_beside_lightnings_own_callback_for_checkpoints(config, tmp_path):  # noqa: F811
    callbacks = [checkpoints(tmp_path / "steps"), leave(3)]
    assert main(["fit", "--config", config(trainer={"callbacks": callbacks})]) == 128 + signal.SIGTERM
    assert [one.name for one in (tmp_path / "run/checkpoints").glob("step*")] == ["step-00000004.ckpt"]


def test_a_second_ctrl_c_ends_at_once(config, tmp_path, capsys):  # noqa: F811
    callbacks = [leave(3, number=signal.SIGINT)] * 2
    assert main(["fit", "--config", config(trainer={"callbacks": callbacks})]) == 130
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: interrupted; stopped at step 3 in epoch 0; there is no checkpoint yet")
    assert not list((tmp_path / "run").rglob("*.ckpt"))


@pytest.mark.slow
def test_of_two_ranks_one_gets_sigterm_and_both_leave_together(config, tmp_path):  # noqa: F811
    """The second one, which Lightning's own handler would leave waiting for the first."""
    trainer = {"max_epochs": 2, "devices": 2, "strategy": "ddp"}
    path = config("left", trainer=trainer | {"callbacks": [leave(2, rank=1)]})
    status, error = end(start(path))
    assert status == 128 + signal.SIGTERM, error
    assert "error: SIGTERM: the run was asked to leave; stopped at step 4 in epoch 0" in error
    assert [one.name for one in (tmp_path / "left/checkpoints").glob("step*")] == ["step-00000004.ckpt"]
    status, error = end(start(path, "--ckpt_path", "last"))
    assert status == 0, error
    status, error = end(start(config("whole", trainer=trainer)))
    assert status == 0, error
    name = "checkpoints/step-00000010.ckpt"
    assert_same_weights(weights(tmp_path / "left" / name), weights(tmp_path / "whole" / name))
