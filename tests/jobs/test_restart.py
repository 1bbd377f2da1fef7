"""Failures for real: a worker killed in the middle, input that no restart cures, a job taken up again by its name."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
import torch
import yaml

from jobs import state
from jobs.results import RunFolder
from tests.jobs.conftest import SPEC, Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def wait_for_log(run_jobs: Run, job: str, pattern: str, seconds: float = 150) -> re.Match[str]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        log = run_jobs("logs", job).stdout
        if found := re.search(pattern, log):
            return found
        time.sleep(0.5)
    raise AssertionError(f"{pattern!r} never appeared in:\n{log}")


def fit(run_jobs: Run, name: str, *more: str) -> str:
    words = ["submit", "--spec", SPEC, "--name", name, "--checkpoint_every_n_steps", "3", "--no_check"]
    submitted = run_jobs(*words, "--", "fit", "--config", "mine.yaml", *more)
    assert submitted.returncode == 0, submitted.stderr
    return submitted.stdout.split()[1]


def test_a_killed_worker_is_replaced(local: state.LocalCluster, run_jobs: Run, folder: Path) -> None:
    job = fit(run_jobs, "killed", "--model.delay", "0.5", "--trainer.max_epochs", "3")
    worker = int(wait_for_log(run_jobs, job, r"STARTED rank=1 of=2 pid=(\d+)")[1])
    wait_for_log(run_jobs, job, r"checkpoint reported: .*step 6")
    os.kill(worker, signal.SIGKILL)
    killed = time.monotonic()
    resumed = wait_for_log(run_jobs, job, r"TRAINS from step ([1-9]\d*)")
    print(f"training again {time.monotonic() - killed:.1f} s after SIGKILL, from step {resumed[1]}")
    followed = run_jobs("logs", job, "--follow")
    assert followed.returncode == 0, followed.stdout
    assert int(resumed[1]) >= 6
    result = json.loads((folder / "runs" / "killed" / "result.json").read_text())
    assert result["metrics"]["last"]["step"] == 24
    assert len(result["failures"]) == 1
    kept = list((folder / "runs" / "killed").glob("checkpoint_*"))
    assert len(kept) <= 4, "the best three and the newest"


def test_the_weights_are_those_of_a_calm_run(
    local: state.LocalCluster, run_jobs: Run, folder: Path, motion_dataset: Path
) -> None:
    data = {"root": str(motion_dataset), "batch_size": 4, "crop_size": 32, "flip_probability": 0.0, "num_workers": 1}
    model = {"width": 2, "num_frames": 16, "crop_size": 32, "batch_norm": True, "learning_rate": 0.01}
    content = {
        "seed_everything": 7,
        "model": {"class_path": "C3D", "init_args": model},
        "data": {"class_path": "ShardedVideoDataModule", "init_args": data},
        "trainer": {"max_epochs": 4, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False},
    }
    content["trainer"]["callbacks"] = [{"class_path": "own_module.Slow"}]  # type: ignore[index]
    (folder / "c3d.yaml").write_text(yaml.safe_dump(content))
    words = ["--spec", SPEC, "--checkpoint_every_n_steps", "3", "--no_check", "--", "fit", "--config", "c3d.yaml"]
    calm = run_jobs("submit", "--name", "calm", "--wait", *words)
    assert calm.returncode == 0, calm.stdout
    job = run_jobs("submit", "--name", "shaken", *words).stdout.split()[1]
    worker = int(wait_for_log(run_jobs, job, r"SLOWED rank=1 pid=(\d+)")[1])
    wait_for_log(run_jobs, job, r"checkpoint reported: .*step 6")
    os.kill(worker, signal.SIGKILL)
    assert run_jobs("logs", job, "--follow").returncode == 0
    shaken = RunFolder(str(folder / "runs"), "shaken")
    assert len(shaken.read_failures()) == 1
    calm_weights, shaken_weights = (
        torch.load(folder / "runs" / name / "last.ckpt", weights_only=True) for name in ("calm", "shaken")
    )
    assert calm_weights["global_step"] == shaken_weights["global_step"] == 20
    for name, weight in calm_weights["state_dict"].items():
        assert torch.equal(weight, shaken_weights["state_dict"][name]), name


def test_what_no_restart_cures_is_tried_once(local: state.LocalCluster, run_jobs: Run, folder: Path) -> None:
    job = fit(run_jobs, "refused", "--data.root", "absent")
    followed = run_jobs("logs", job, "--follow")
    assert followed.returncode == 1
    assert followed.stdout.strip().splitlines()[-1] == "error: root=absent: there is no such folder"
    assert "Traceback" not in followed.stdout
    failures = (folder / "runs" / "refused" / "failures.jsonl").read_text().splitlines()
    assert len(failures) == 1


def test_the_same_name_goes_on(local: state.LocalCluster, run_jobs: Run, folder: Path) -> None:
    more = ("--model.delay", "0.5", "--trainer.max_epochs", "3")
    job = fit(run_jobs, "again", *more)
    wait_for_log(run_jobs, job, r"checkpoint reported: .*step 6")
    assert "STOPPED" in run_jobs("stop", job).stdout
    again = fit(run_jobs, "again", *more)
    followed = run_jobs("logs", again, "--follow")
    assert followed.returncode == 0, followed.stdout
    assert int(re.search(r"TRAINS from step (\d+)", followed.stdout)[1]) >= 6  # type: ignore[index]
    assert json.loads((folder / "runs" / "again" / "result.json").read_text())["metrics"]["last"]["step"] == 24


def test_other_verbs_are_jobs_too(local: state.LocalCluster, run_jobs: Run, folder: Path) -> None:
    words = ("synthesize", "--root", "made", "--train", "1", "--val", "1", "--test", "1", "--processes", "1")
    made = run_jobs("submit", "--wait", "--", *words)
    assert made.returncode == 0, made.stdout + made.stderr
    assert (folder / "made" / "train.csv").is_file()
    refused = run_jobs("submit", "--wait", "--", "synthesize", "--root", "made2", "--fps", "0")
    assert refused.returncode == 2
    assert "error: fps=0" in refused.stdout
