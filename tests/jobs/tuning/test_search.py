"""Searches for real: the known best is found, bad trials stop, and what is killed in between goes on as undisturbed."""

import csv
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml

from jobs.client import local_state
from jobs.spec.job import OVERLAY_FILE
from jobs.spec.job_spec import JobSpec
from jobs.storage.run_folder import RunFolder
from jobs.submission.submit import overlay
from jobs.submission.upload import stage_upload
from tests.jobs.conftest import Run, wait_for_log
from tests.jobs.own_module import write_project
from tests.jobs.two_nodes import Nodes
from tests.pipeline.gray_videos import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
RATE = "model.init_args.learning_rate"
GOOD, BAD, REFUSED = 0.5, 1e-9, -1.0
SPACE: dict[str, Any] = {
    "metric": "val/top1",
    "search": "grid",
    "scheduler": "asha",
    "reduction_factor": 2,
    "parameters": {RATE: {"choice": [GOOD, 0.0, REFUSED, BAD]}},
}
SPEC = {"num_workers": 1, "max_failures": 3, "checkpoint_every_n_steps": 1}
EPOCHS = 2
FIT = ["fit", "--config", "mine.yaml", "--trainer.max_epochs", str(EPOCHS), "--model.delay", "3"]


def trials(folder: Path) -> list[dict[str, Any]]:
    """The records of a search's trials in the order of their numbers."""
    return [json.loads(path.read_text()) for path in sorted((folder / "trials").glob("*/trial.json"))]


def outcomes(folder: Path) -> list[dict[str, str]]:
    """The rows of a search's table, without the value of trial 1."""
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["trial"] == "1", "the known best"
    assert float(rows[0].pop("val/top1")) > 0.9
    rows[0].pop("epoch")
    return rows


def tune(run_jobs: Run, name: str, *more: str) -> str:
    """Submit the search; returns the id of its job."""
    options = [word for field, value in SPEC.items() for word in (f"--{field}", str(value))]
    command = ["tune", "--space", "space.yaml", "--name", name, "--no_check", *options, *more, "--", *FIT]
    submitted = run_jobs(*command, timeout_s=1000)
    assert submitted.returncode == 0, submitted.stdout + submitted.stderr
    return submitted.stdout.split()[1]


def kill_driver(job: str) -> None:
    """SIGKILL to the process of a job's driver."""
    for process in psutil.process_iter():
        try:
            if "jobs.driver" in process.cmdline() and process.environ().get("JOBS_SUBMISSION_ID") == job:
                process.kill()
                return
        except psutil.Error:
            continue
    raise AssertionError(f"{job} has no driver")


@pytest.fixture(scope="module")
def calm(local: local_state.LocalCluster, run_jobs: Run, folder: Path) -> Path:
    """The folder of a search that nothing disturbed."""
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE))
    (folder / "hurry").touch()
    job = tune(run_jobs, "calm", "--wait")
    (folder / "hurry").unlink()
    print(run_jobs("logs", job).stdout)
    return folder / "runs" / "calm"


def test_the_known_best_is_found_and_bad_trials_stop(calm: Path, run_jobs: Run) -> None:
    good, zero, refused, bad = trials(calm)
    assert [trial["settings"][RATE] for trial in (good, zero, refused, bad)] == [GOOD, 0.0, REFUSED, BAD]
    assert (good["state"], len(good["reports"])) == ("finished", EPOCHS)
    for trial in (zero, bad):
        assert trial["state"] == "stopped"
        assert trial["message"] == "stopped by the scheduler at epoch 1"
        [report] = trial["reports"]
        run = calm / "trials" / f"{trial['number']:04d}"
        best = torch.load(run / "best.ckpt", weights_only=True)
        assert best["global_step"] == report["step"] == 16, "exactly the epochs that it was judged by"
        kept = json.loads((run / "checkpoints/checkpoints.json").read_text())["checkpoints"][-1]
        assert kept["metrics"]["val/top1"] == report["metrics"]["val/top1"]
        assert json.loads((run / "result.json").read_text())["status"] == "finished"
    assert refused["state"] == "refused"
    assert refused["message"] == "Invalid learning rate: -1.0"
    with (calm / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["trial"] == "1"
    assert [row["state"] for row in rows] == ["finished", "stopped", "stopped", "refused"]
    result = json.loads((calm / "result.json").read_text())
    assert result["best"]["settings"] == {RATE: GOOD}
    assert torch.load(result["checkpoints"]["best"], weights_only=True)["hyper_parameters"]["learning_rate"] == GOOD
    log = run_jobs("logs", "calm").stdout
    assert not re.search(r"^Traceback", log, re.M), "of the driver; Ray's own processes print some where all is slow"
    assert log.strip().splitlines()[-1].startswith(f"to evaluate it: python -m pipeline evaluate --checkpoint {calm}")
    status = run_jobs("tune", "--status", "calm").stdout
    assert status.splitlines()[0] == "trials: 1 finished, 2 stopped, 1 refused of 4"
    assert "best:        trial 1, val/top1 " in run_jobs("status", "calm").stdout
    again = run_jobs("tune", "--resume", "calm")
    assert "calm has finished already; there is nothing to do" in again.stdout


def test_killed_and_stopped_it_ends_as_the_calm_one(calm: Path, run_jobs: Run, folder: Path) -> None:
    """SIGKILL to a train worker, then to the driver; then `stop`: the table is the same.

    But for the value of the trial that was killed within an epoch: the project's plain DataLoader does not resume at
    the exact sample. `ShardedVideoDataModule` does (tests/jobs/training/test_restart.py).
    """
    shaken = folder / "runs" / "shaken"
    job = tune(run_jobs, "shaken")
    worker = wait_for_log(run_jobs, job, r"STARTED rank=0 of=1 .*pid=(\d+)", 400)
    wait_for_log(run_jobs, job, r"checkpoint reported: .*step 3\b", 400)
    os.kill(int(worker[1]), signal.SIGKILL)
    wait_for_log(run_jobs, job, r"TRAINS from step [3-9]", 400)
    kill_driver(job)
    wait_for(lambda: "FAILED" in run_jobs("status", job).stdout, 100)
    assert trials(shaken)[0]["state"] == "running"
    changed = run_jobs("tune", "--space", "mine.yaml", "--name", "shaken", "--no_check", "--", *FIT)
    assert changed.returncode == 2

    resumed = run_jobs("tune", "--resume", "shaken").stdout.split("submitted ")[1].split()[0]
    wait_for_log(run_jobs, resumed, r"TRAINS from step [3-9]", 400)
    stopped = run_jobs("stop", resumed).stdout.splitlines()
    assert stopped == [f"{resumed}: STOPPED", "to go on: python -m jobs tune --resume shaken"]
    last_step = max(int(path.stem[5:]) for path in (shaken / "trials/0001/checkpoints").glob("step-*.ckpt"))
    assert trials(shaken)[0]["state"] == "running"

    (folder / "hurry").touch()
    ended = run_jobs("tune", "--resume", "shaken", "--wait", timeout_s=1000)
    (folder / "hurry").unlink()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"TRAINS from step {last_step}\n" in ended.stdout
    assert outcomes(shaken) == outcomes(calm)
    assert len(RunFolder(str(shaken / "trials"), "0001").read_failures()) == 1


@pytest.fixture
def origin() -> Iterator[Path]:
    """A folder of submit; a short path, as Ray's sockets are below it."""
    path = Path(tempfile.mkdtemp(prefix="jobs-"))
    write_project(path)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def nodes(origin: Path) -> Iterator[Nodes]:
    """A cluster of one node, which sees what submit would upload; a second one is added by the test."""
    code = origin / "upload"
    stage_upload(["fit", "--config", "mine.yaml"], origin, code)
    (code / OVERLAY_FILE).parent.mkdir()
    (code / OVERLAY_FILE).write_text(overlay(JobSpec(monitor="val/top1", monitor_mode="max", **SPEC)))
    started = Nodes(origin, code)
    yield started
    for number in reversed(range(len(started.nodes))):
        started.kill(number)


def test_a_lost_node_costs_no_trial(nodes: Nodes, origin: Path) -> None:
    """Two trials at a time, one a node; the trial of the lost node goes on where there is room."""
    space = SPACE | {"scheduler": "none", "concurrent": 2, "parameters": {RATE: {"choice": [GOOD, 0.0]}}}
    (origin / "space.yaml").write_text(yaml.safe_dump(space))
    second = nodes.add()
    arguments = ["tune", "--space", str(origin / "space.yaml"), "--", *FIT]
    arguments[arguments.index("mine.yaml")] = str(origin / "mine.yaml")
    log = origin / "job.log"
    with log.open("w") as output:
        job = nodes.drive(origin, arguments, output=output, name="search", **SPEC)
    search = origin / "search"
    try:
        wait_for(lambda: all(list(search.glob(f"trials/000{n}/checkpoints/step-*.ckpt")) for n in (1, 2)), 400)
        nodes.kill(second)
        killed = time.monotonic()
        wait_for(lambda: any(search.glob("trials/*/failures.jsonl")), 200)
        print(f"noticed {time.monotonic() - killed:.0f} s after the node was killed")
        (origin / "hurry").touch()
        assert job.wait(600) == 0
    finally:
        job.kill()
        print(log.read_text())
    assert [(trial["state"], len(trial["reports"])) for trial in trials(search)] == [("finished", EPOCHS)] * 2
    [lost] = [line for path in search.glob("trials/*/failures.jsonl") for line in path.read_text().splitlines()]
    assert not json.loads(lost)["refused"]
    assert re.search(r"TRAINS from step [1-9]", log.read_text()), "the trial went on from its newest checkpoint"
