"""Failures for real: a worker killed in the middle, input that no restart cures, a job taken up again by its name."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from jobs.client import local_state
from jobs.storage.run_folder import RunFolder
from tests.jobs.conftest import SPEC, Run, wait_for_log
from tests.jobs.own_module import CONFIG
from tests.jobs.training import fault_injection

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def fit(run_jobs: Run, name: str, *more: str, every: int = 3) -> str:
    arguments = ["submit", "--spec", SPEC, "--name", name, "--checkpoint_every_n_steps", str(every), "--no_check"]
    submitted = run_jobs(*arguments, "--", "fit", "--config", "mine.yaml", *more)
    assert submitted.returncode == 0, submitted.stderr
    return submitted.stdout.split()[1]


def test_the_weights_are_those_of_a_calm_run(
    local: local_state.LocalCluster, run_jobs: Run, folder: Path, motion_dataset: Path
) -> None:
    """Killed in the first step, in a later one, in a checkpoint's write, in validation, with the newest damaged."""
    data = {"root": str(motion_dataset), "batch_size": 4, "crop_size": 32, "flip_probability": 0.0, "num_workers": 1}
    data |= {"rand_augment": {"num_ops": 2, "magnitude": 7}, "color_jitter": {"hue": 0.2}}
    model = {"width": 2, "num_frames": 16, "crop_size": 32, "batch_norm": True, "learning_rate": 0.01, "dropout": 0.5}
    trainer = {"max_epochs": 4, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    content = {
        "seed_everything": 7,
        "model": {"class_path": "C3D", "init_args": model},
        "data": {"class_path": "ShardedVideoDataModule", "init_args": data},
        "trainer": trainer | {"accumulate_grad_batches": 2},
    }
    (folder / "calm.yaml").write_text(yaml.safe_dump(content))
    moments = folder / "moments"
    moments.mkdir()
    places = {"folder": str(moments), "checkpoints": str(folder / "runs" / "shaken" / "checkpoints")}
    callback = {"class_path": "fault_injection.FaultInjection", "init_args": places}
    content["trainer"]["callbacks"] = [callback]  # type: ignore[index]
    (folder / "shaken.yaml").write_text(yaml.safe_dump(content))
    shutil.copy(Path(fault_injection.__file__), folder)
    arguments = [
        "submit",
        "--spec",
        SPEC,
        "--no_check",
        "--checkpoint_every_n_steps",
        "1",
        "--max_failures",
        "5",
        "--wait",
    ]
    logs = {}
    for name in ("calm", "shaken"):
        finished = run_jobs(*arguments, "--name", name, "--", "fit", "--config", f"{name}.yaml", timeout_s=1000)
        assert finished.returncode == 0, finished.stdout
        logs[name] = finished.stdout
    log = logs["shaken"]
    assert {path.name for path in moments.iterdir()} == {
        "first-step",
        "step",
        "write",
        "damage",
        "validation",
        "sigterm",
    }
    assert "WRITING 1" in log, "the file was there, under its other name, when its writer was killed"
    assert re.search(r"removed what an earlier attempt left: \.step-00000005.*partial", log)
    damaged = re.search(r"DAMAGED (step-(\d+)\.ckpt)", log)
    assert damaged is not None
    before = int(damaged[2]) - 1
    assert re.search(
        rf"warning: checkpoint \S+/{damaged[1]} is damaged \(it has .* whole, .*, step {before}$", log, re.M
    )
    starts = [int(step) for step in re.findall(r"TRAINS rank=0 from step (\d+)", log)]
    assert starts in ([0, first, 3, 4, before, 9, 11] for first in (0, 1)), "rank 0 may save what rank 1 did not end"
    assert re.search(r"the ranks saved step 11 and left: rank 1 received SIGTERM$", log, re.M)
    killed = r"training was interrupted: rank 1 \(process \d+ on node 127\.0\.0\.1\) was killed, or crashed; "
    assert re.search(killed + r"going on from step 3 \(failure 2 of 5\)$", log, re.M), log
    assert not re.search("FailurePolicy|Graceful shutdown of backend", log), "Ray says it no second time"
    failures = RunFolder(str(folder / "runs"), "shaken").read_failures()
    assert len(failures) == 5, "SIGTERM is none"
    calm, shaken = (torch.load(folder / "runs" / name / "last.ckpt", weights_only=True) for name in ("calm", "shaken"))
    assert calm["global_step"] == shaken["global_step"] == 12
    for name, weight in calm["state_dict"].items():
        assert torch.equal(weight, shaken["state_dict"][name]), name
    result = json.loads((folder / "runs" / "shaken" / "result.json").read_text())
    assert result["metrics"]["last"]["step"] == 12
    kept = list((folder / "runs" / "shaken" / "checkpoints").glob("step-*.ckpt"))
    assert 3 <= len(kept) <= 4, "the newest three and the best"


def test_a_rank_that_hangs_is_named_and_ended(local: local_state.LocalCluster, run_jobs: Run, folder: Path) -> None:
    shutil.copy(Path(fault_injection.__file__), folder)
    content = yaml.safe_load(CONFIG)
    content["trainer"]["callbacks"].append(
        {"class_path": "fault_injection.RankHang", "init_args": {"folder": str(folder)}}
    )
    (folder / "hangs.yaml").write_text(yaml.safe_dump(content))
    arguments = ["submit", "--spec", SPEC, "--name", "hung", "--no_check", "--hang_timeout_s", "45", "--wait"]
    followed = run_jobs(*arguments, "--checkpoint_every_n_steps", "1", "--", "fit", "--config", "hangs.yaml")
    assert followed.returncode == 0, followed.stdout
    [failure] = RunFolder(str(folder / "runs"), "hung").read_failures()
    assert re.search(
        r"^hung: no progress for 45 s \(hang_timeout_s\) of rank 1 of 2 \(process \d+, after step 2, waiting for data; "
        r"in fault_injection.py, line \d+, sleep_for_good\)$",
        failure["reason"],
    ), failure["reason"]
    assert "rank 1 was at:" in followed.stdout
    assert re.search(r"TRAINS from step 2\b", followed.stdout)


def test_what_no_restart_cures_is_tried_once(local: local_state.LocalCluster, run_jobs: Run, folder: Path) -> None:
    job = fit(run_jobs, "refused", "--data.root", "absent")
    followed = run_jobs("logs", job, "--follow")
    assert followed.returncode == 1
    assert followed.stdout.strip().splitlines()[-1] == "error: root=absent: there is no such folder"
    assert "Traceback" not in followed.stdout
    assert followed.stdout.count("there is no such folder") == 1
    failures = (folder / "runs" / "refused" / "failures.jsonl").read_text().splitlines()
    assert len(failures) == 1


def test_stopped_and_submitted_again_it_goes_on(local: local_state.LocalCluster, run_jobs: Run, folder: Path) -> None:
    more = ("--model.delay", "2", "--trainer.max_epochs", "4")
    job = fit(run_jobs, "again", *more, every=100)
    wait_for_log(run_jobs, job, r"checkpoint reported: .*step 8")
    said = run_jobs("stop", job).stdout.splitlines()
    assert said[0] == f"{job}: STOPPED"
    log = run_jobs("logs", job).stdout
    stopped = re.search(r"the ranks saved step (\d+) and left: the job was stopped", log)
    assert stopped is not None, log
    assert int(stopped[1]) > 8
    *_, newest, how = log.strip().splitlines()
    assert re.fullmatch(rf"newest checkpoint: {folder}/runs/again/checkpoints/step-0*{stopped[1]}\.ckpt", newest)
    assert how == "to go on from it: python -m jobs resume again"
    assert said[1:] == [newest, how], "and `stop` says so"
    (folder / "hurry").touch()
    followed = run_jobs("logs", fit(run_jobs, "again", *more), "--follow")
    (folder / "hurry").unlink()
    assert followed.returncode == 0, followed.stdout
    assert re.findall(r"TRAINS from step (\d+)", followed.stdout) == [stopped[1]] * 2
    assert json.loads((folder / "runs" / "again" / "result.json").read_text())["metrics"]["last"]["step"] == 32


def test_other_verbs_are_jobs_too(local: local_state.LocalCluster, run_jobs: Run, folder: Path) -> None:
    arguments = ("synthesize", "--root", "made", "--train", "1", "--val", "1", "--test", "1", "--processes", "1")
    made = run_jobs("submit", "--wait", "--", *arguments)
    assert made.returncode == 0, made.stdout + made.stderr
    assert (folder / "made" / "train.csv").is_file()
    refused = run_jobs("submit", "--wait", "--", "synthesize", "--root", "made2", "--fps", "0")
    assert refused.returncode == 2
    assert "error: fps=0" in refused.stdout
