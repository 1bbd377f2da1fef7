"""What stands on standard error last when a run ends before its time; the command that it names goes on."""

import os
import re
import resource
import shlex
import signal
import traceback

import pytest

from pipeline.__main__ import main
from pipeline.cli.errors import is_reported_elsewhere
from pipeline.processes.outcome import attached_outcome
from tests.pipeline.checkpoints.test_preemption import end, start, wait_for
from tests.pipeline.training.test_run import config  # noqa: F401 # a fixture


def test_an_error_of_others_carries_the_command_that_goes_on(config, tmp_path):  # noqa: F811
    fail = {"class_path": "tests.pipeline.training.fault_injection.FailAt", "init_args": {"step": 13}}
    path = config(trainer={"callbacks": [fail]}, checkpoints={"every_n_steps": 4})
    with pytest.raises(RuntimeError, match="the machine is on fire") as caught:
        main(["fit", "--config", path, "--trainer.log_every_n_steps", "1", "--ckpt_path=last"])
    outcome = attached_outcome(caught.value)
    assert (outcome.kind, outcome.message) == (
        "failed",
        "RuntimeError: the machine is on fire; stopped at step 13 in epoch 1",
    )
    newest = tmp_path / "run" / "checkpoints" / "step-00000012.ckpt"
    assert outcome.checkpoint == str(newest)
    words = shlex.split(outcome.resume)
    fit = ["fit", "--config", path, "--trainer.log_every_n_steps", "1"]
    assert words == ["python", "-m", "pipeline", *fit, "--ckpt_path", str(newest)]
    assert main([*words[3:], "--trainer.callbacks", "null"]) == 0  # what was typed, without the fire
    assert traceback.format_exception(caught.value)[-1].splitlines()[-1] == (
        f"error: {outcome.message}; the newest checkpoint is {newest}; go on with: {outcome.resume}"
    )


def test_a_run_without_a_checkpoint_says_so(config):  # noqa: F811
    fail = {"class_path": "tests.pipeline.training.fault_injection.FailAt", "init_args": {"step": 1}}
    with pytest.raises(RuntimeError) as caught:
        main(["fit", "--config", config(trainer={"callbacks": [fail], "enable_checkpointing": False})])
    assert attached_outcome(caught.value).message.endswith("stopped at step 1 in epoch 0; there is no checkpoint yet")


def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(config, tmp_path, capsys):  # noqa: F811
    full = {"class_path": "tests.pipeline.training.fault_injection.LimitFileSize", "init_args": {"step": 5}}
    path = config(trainer={"callbacks": [full]}, checkpoints={"every_n_steps": 2})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        assert main(["fit", "--config", path]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "the newest checkpoint is" in last
    assert [one.name for one in (tmp_path / "run" / "checkpoints").glob("*step*")] == [
        "step-00000002.ckpt",
        "step-00000004.ckpt",
    ]


@pytest.mark.parametrize(("rank", "quiet"), [("0", False), ("1", True)])
def test_of_the_ranks_of_a_terminal_one_says_that_it_was_interrupted(monkeypatch, rank, quiet):
    monkeypatch.setenv("LOCAL_RANK", rank)
    stop = SystemExit(1)
    stop.__context__ = KeyboardInterrupt()  # as Lightning does
    assert is_reported_elsewhere(stop) is quiet
    assert not is_reported_elsewhere(ValueError("of this rank alone"))


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_ctrl_c_ends_with_the_command_that_goes_on(config, tmp_path, ranks):  # noqa: F811
    """The signal goes to all processes of the terminal: ranks and DataLoader workers."""
    wandb = {"class_path": "WandbLogger", "init_args": {"save_dir": str(tmp_path), "offline": True}}
    trainer = {"max_epochs": 40, "devices": ranks, "strategy": "ddp" if ranks > 1 else "auto", "logger": wandb}
    path = config(trainer=trainer, data={"num_workers": 1}, checkpoints={"every_n_steps": 7})
    run = start(path)
    wait_for(tmp_path / "run" / "last.ckpt", run)
    os.killpg(run.pid, signal.SIGINT)
    status, error = end(run)
    assert status == 130, error
    last = error.splitlines()[-1]
    step = re.match(r"error: interrupted; stopped at step (\d+) in epoch \d+; the newest checkpoint is ", last)
    assert step, error[-3000:]
    assert last.endswith(f" --ckpt_path {tmp_path}/run/checkpoints/step-{int(step[1]):08d}.ckpt")  # of that very step
    assert error.count("saving at the end of the step") == 1, error[-3000:]
    assert re.findall(r"wandb sync (\S+)-\w+$", error, re.MULTILINE) == [f"{tmp_path}/wandb/offline-run-*"], error[
        -3000:
    ]
    noise = ("anonymous setting", "LeafSpec", "functional.all_gather", "logging interval", "TPU available", "Tip:")
    assert [each for each in noise if each in error] == [], error[-3000:]
    assert "wandb: " not in error.partition("saving at the end of the step")[2], error[-3000:]
