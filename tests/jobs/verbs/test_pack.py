"""Packing as a job, broken for real: killed processes, killed nodes, jobs stopped and submitted again."""

import csv
import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from jobs.client import local_cluster, local_state
from tests.jobs.conftest import Run
from tests.jobs.training.test_restart import wait_for_log
from tests.pipeline.gray_videos import command, digests, make_endless, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def whole(originals: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of what one machine makes of the originals."""
    out = tmp_path_factory.mktemp("whole") / "out"
    subprocess.run(command(out, originals), check=True, capture_output=True)
    return digests(out)


@pytest.fixture
def hanging(originals: Path, folder: Path) -> Path:
    """The originals in the folder of submit; run/5.mp4 takes minutes."""
    shutil.rmtree(folder / "videos", ignore_errors=True)
    videos = shutil.copytree(originals, folder / "videos")
    make_endless(videos / "run" / "5.mp4")
    return videos


def pack_arguments(out: str, *spec: str) -> list[str]:
    """Submits the packing of the videos in the folder of submit, all paths relative."""
    pack = ["pack", "--out", out, "--annotations", "videos/list.csv", "--videos-per-shard", "3", "--fps", "10"]
    return ["submit", "--num-workers", "2", *spec, "--", *pack]


def busy_worker(local: local_state.LocalCluster, out: Path) -> int:
    """Waits until but one part is done, and tells the process id of the task that makes it."""

    def tasks() -> list[int]:
        found = []
        for process in local_cluster.cluster_processes(local):
            with suppress(OSError):  # gone meanwhile
                if Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"ray::pack_part"):
                    found.append(process.pid)
        return found

    wait_for(lambda: len(list(out.glob(".parts/*.tar.json"))) == 4 and list(out.glob(".*.partial")))
    wait_for(lambda: len(tasks()) == 1)  # the one before has a little to do behind its shard
    return tasks()[0]


def test_a_killed_task_begins_again(
    local: local_state.LocalCluster, run_jobs: Run, folder: Path, hanging: Path, originals: Path, whole: dict[str, str]
) -> None:
    out = folder / "killed" / "out"
    job = run_jobs(*pack_arguments("killed/out")).stdout.split()[1]
    worker = busy_worker(local, out)
    wait_for_log(run_jobs, job, r"pack: 9 of 12 videos, .* left")
    shutil.copyfile(originals / "run" / "5.mp4", hanging / "run" / "5.mp4")
    os.kill(worker, signal.SIGKILL)
    followed = run_jobs("logs", job, "--follow")
    assert followed.returncode == 0, followed.stdout
    assert re.search(r"out-\w+-00000\d.tar was begun again: its process or node was lost", followed.stdout)
    assert digests(out) == whole
    assert not list(out.rglob("*.partial"))
    assert not list((out / ".parts").glob("job-*"))


def test_a_task_that_always_dies(local: local_state.LocalCluster, run_jobs: Run, folder: Path, hanging: Path) -> None:
    out = folder / "given_up" / "out"
    job = run_jobs(*pack_arguments("given_up/out", "--max-failures", "0")).stdout.split()[1]
    os.kill(busy_worker(local, out), signal.SIGKILL)
    followed = run_jobs("logs", job, "--follow")
    assert followed.returncode == 1
    last = followed.stdout.strip().splitlines()[-1]
    assert re.match(r"error: out-\w+-00000\d.tar was given up: the process or the node that made it died 1 time", last)
    assert "the same submit again keeps the finished shards" in last
    assert "Traceback" not in followed.stdout
    assert not (out / "dataset.json").exists()


def test_stopped_and_submitted_again(
    local: local_state.LocalCluster, run_jobs: Run, folder: Path, hanging: Path, originals: Path, whole: dict[str, str]
) -> None:
    out = folder / "stopped" / "out"
    job = run_jobs(*pack_arguments("stopped/out")).stdout.split()[1]
    worker = busy_worker(local, out)
    assert "STOPPED" in run_jobs("stop", job).stdout
    wait_for(lambda: not Path(f"/proc/{worker}").exists())
    assert not (out / "dataset.json").exists()
    kept = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
    assert len(kept) == 4
    shutil.copyfile(originals / "run" / "5.mp4", hanging / "run" / "5.mp4")
    again = run_jobs(*pack_arguments("stopped/out", "--wait"))
    assert again.returncode == 0, again.stdout
    assert "4 of 5 shards from an earlier run" in again.stdout
    assert digests(out) == whole
    assert kept.items() <= {path.name: path.stat().st_ino for path in out.glob("*.tar")}.items()
    assert not list(out.rglob("*.partial"))


def test_videos_are_divided_as_on_one_machine(
    local: local_state.LocalCluster, run_jobs: Run, folder: Path, originals: Path, tmp_path: Path
) -> None:
    videos = shutil.copytree(originals, tmp_path / "videos")
    with (videos / "list.csv").open(newline="") as file:
        rows = [row[:-1] for row in csv.reader(file)]  # without the column split
    with (videos / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    shutil.rmtree(folder / "videos", ignore_errors=True)
    shutil.copytree(videos, folder / "videos")
    division = ["--split", "train=0.5,test=0.5", "--seed", "1"]
    job = run_jobs(*pack_arguments("divided/out", "--wait"), *division)
    assert job.returncode == 0, job.stdout
    assert "division by class into splits" in job.stdout
    subprocess.run(command(tmp_path / "out", videos, *division), check=True, capture_output=True)
    for name in ("dataset.json", "index.parquet", "splits/packed.csv"):
        assert (folder / "divided" / "out" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
