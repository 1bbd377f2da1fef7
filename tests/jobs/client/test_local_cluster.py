"""A real cluster on this machine, from `up` to `down`, and a two-worker job through the pipeline's command line."""

import json
import os
import re
import shutil
import stat
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml

from jobs.client import local_cluster, local_state
from tests.jobs.conftest import REPOSITORY, SPEC, Run
from tests.jobs.own_module import CONFIG
from tests.pipeline.gray_videos import command, digests, keys

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def trained(folder: Path, run_jobs: Run, local: local_state.LocalCluster) -> subprocess.CompletedProcess[str]:
    """A job that was followed to its end, its config spoilt as soon as it was submitted."""
    arguments = [
        "submit",
        "--spec",
        SPEC,
        "--name",
        "first",
        "--storage-path",
        "runs",
        "--keep_newest",
        "7",
        "--",
        "fit",
        "--config",
        "mine.yaml",
    ]
    submitted = run_jobs(*arguments)
    assert submitted.returncode == 0, submitted.stderr
    (folder / "mine.yaml").write_text("this is: [not yaml")
    followed = run_jobs("logs", "first", "--follow")
    (folder / "mine.yaml").write_text(CONFIG)
    return followed


def test_only_its_owner_reaches_it(local: local_state.LocalCluster) -> None:
    assert stat.S_IMODE(Path(local.token_path).stat().st_mode) == 0o600
    assert stat.S_IMODE(Path(local.folder).stat().st_mode) == 0o700
    for header in ({}, {"Authorization": "Bearer wrong"}):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(f"{local.address}/api/jobs/", headers=header), timeout=10)
        assert refused.value.code in (401, 403)
    listening = {
        connection.laddr.ip
        for process in local_cluster.cluster_processes(local)
        for connection in process.net_connections()
        if connection.status == "LISTEN"
    }
    assert listening
    assert {address.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_up_again_finds_the_same(local: local_state.LocalCluster, run_jobs: Run) -> None:
    assert local.address in run_jobs("up").stdout
    other = run_jobs("up", "--num-cpus", "5")
    assert other.returncode == 2
    assert f"num_cpus=5: the cluster at {local.address} runs already, with 2 CPUs; end it" in other.stderr
    assert local_cluster.is_alive(local)


def test_a_fit_on_two_workers(trained: subprocess.CompletedProcess[str], folder: Path) -> None:
    assert trained.returncode == 0, trained.stdout + trained.stderr
    started = re.findall(r"STARTED rank=(\d) of=2 .* cwd=(\S+) threads=1 wandb=offline", trained.stdout)
    assert sorted(started) == [("0", str(folder)), ("1", str(folder))]
    lines = trained.stdout.strip().splitlines()[-3:]
    run = folder / "runs" / "first"
    assert lines == [
        f"best checkpoint: {run}/best.ckpt",
        f"last checkpoint: {run}/last.ckpt",
        f"result: {run}/result.json",
    ]
    result = json.loads((run / "result.json").read_text())
    assert result["metrics"]["last"]["step"] == 16
    assert result["metrics"]["last"]["val/top1"] > 0.5
    assert result["failures"] == []
    assert (run / "best.ckpt").stat().st_size > 0
    configuration = yaml.safe_load((run / "config.yaml").read_text())
    assert configuration["model"]["init_args"]["delay"] == 0.0
    assert configuration["checkpoints"]["keep_newest"] == 7
    assert (run / "last.ckpt").resolve() == run / "checkpoints" / "step-00000016.ckpt"
    assert list((folder / "logs").rglob("metrics.csv")), "the user's logger wrote where it was told, relative paths too"


def test_what_is_told_of_it(trained: subprocess.CompletedProcess[str], folder: Path, run_jobs: Run) -> None:
    listed = run_jobs("list").stdout.splitlines()
    assert len(listed) == 1
    assert re.search(r"^first-\w+ +SUCCEEDED .* fit --config mine.yaml$", listed[0])
    status = run_jobs("status").stdout
    assert re.search(r"run folder: +" + str(folder / "runs" / "first"), status)
    first = run_jobs("status", "first").stdout.splitlines()
    assert "status:      SUCCEEDED" in first
    assert "step:        16" in first
    assert f"checkpoint:  step 16, {folder}/runs/first/checkpoints/step-00000016.ckpt" in first
    assert "TRAINS from step 0" in run_jobs("logs", listed[0].split()[0]).stdout
    unknown = run_jobs("status", "second")
    assert unknown.returncode == 2
    assert "error: job=second: there is no such job on this cluster; the newest are: first-" in unknown.stderr
    assert run_jobs("stop").stdout.strip().endswith("has ended already: SUCCEEDED")


def test_the_token_is_nowhere(
    trained: subprocess.CompletedProcess[str], local: local_state.LocalCluster, folder: Path
) -> None:
    secret = local.token()
    places = [path for root in (folder / "runs", Path(local.folder)) for path in root.rglob("*") if path.is_file()]
    assert len(places) > 20
    assert not [path for path in places if secret.encode() in path.read_bytes()]


def test_the_same_again_is_finished(trained: subprocess.CompletedProcess[str], run_jobs: Run) -> None:
    arguments = [
        "submit",
        "--spec",
        SPEC,
        "--name",
        "first",
        "--no_check",
        "--wait",
        "--",
        "fit",
        "--config",
        "mine.yaml",
    ]
    again = run_jobs(*arguments)
    assert again.returncode == 0, again.stderr
    assert "this run has finished already; there is nothing to do" in again.stdout


@pytest.mark.slow
def test_stop(local: local_state.LocalCluster, run_jobs: Run, folder: Path) -> None:
    arguments = ["submit", "--name", "long", "--no_check", "--", "fit", "--config", "mine.yaml", "--model.delay", "60"]
    job = run_jobs(*arguments).stdout.split()[1]
    twice = run_jobs(*arguments)
    assert twice.returncode == 2
    assert f"name=long: the job {job} is writing to {folder}/runs/long" in twice.stderr
    deadline = time.monotonic() + 60
    while "RUNNING" not in run_jobs("status", job).stdout and time.monotonic() < deadline:
        time.sleep(0.5)
    stopped = run_jobs("stop", job)
    # On a slow machine the first epoch may be over, and how to go on is told too.
    assert stopped.stdout.splitlines()[:1] == [f"{job}: STOPPED"], stopped.stderr


@pytest.mark.slow
def test_pack_is_the_same_as_on_one_machine(
    local: local_state.LocalCluster, run_jobs: Run, folder: Path, originals: Path
) -> None:
    videos = shutil.copytree(originals, folder / "videos")
    (videos / "run" / "5.mp4").write_bytes(b"no video")
    here = {"cwd": folder, "env": os.environ | {"PYTHONPATH": str(REPOSITORY)}}
    more = ["--short-side", "32", "16"]
    subprocess.run(command(Path("one/out"), Path("videos"), *more), check=True, capture_output=True, **here)  # type: ignore[call-overload]
    arguments = ["--num-workers", "2", "--wait", "--", "pack", "--out", "two/out", "--annotations", "videos/list.csv"]
    packed = run_jobs("submit", *arguments, "--videos-per-shard", "3", "--fps", "10", "--processes", "7", *more)
    assert packed.returncode == 0, packed.stdout + packed.stderr
    assert digests(folder / "two" / "out") == digests(folder / "one" / "out")
    assert digests(folder / "two" / "out" / "short16") == digests(folder / "one" / "out" / "short16")
    assert len(keys(folder / "two" / "out" / "short16")) == 11
    assert "note: --processes is for one machine; num_workers x cpus_per_worker = 2 holds here" in packed.stdout
    assert re.search(
        r"pack: 12 of 12 videos, [\d.]+ videos/s, [\d.]+ MB/s, [\d.]+ \+ [\d.]+ MB written, 1 refused", packed.stdout
    )
    assert "wrote two/out in" in packed.stdout
    assert "SUCCEEDED" in run_jobs("status").stdout
    assert not [path for path in (folder / "two").rglob("*") if path.suffix == ".partial" or "job-" in path.name]


def test_too_much_is_refused_in_a_line(local: local_state.LocalCluster, run_jobs: Run) -> None:
    arguments = ["submit", "--num_workers", "9", "--no_check", "--wait", "--", "fit", "--config", "mine.yaml"]
    refused = run_jobs(*arguments)
    assert refused.returncode == 1
    assert "take 9 CPU (the cluster has 2)" in refused.stdout.strip().splitlines()[-1]
    status = run_jobs("status").stdout.splitlines()
    assert "message:     Job entrypoint command failed with exit code 1" in status
    assert status[2].startswith("reason:      error: ")
    assert "take 9 CPU" in status[2]
    assert len(status) <= 9, "not the whole log"


def test_down_leaves_nothing(local: local_state.LocalCluster, run_jobs: Run, folder: Path) -> None:
    job = run_jobs("list").stdout.split()[0]
    assert local_cluster.cluster_processes(local)
    down = run_jobs("down")
    assert down.stdout.strip() == f"stopped the cluster at {local.address}", down.stderr
    assert not local_cluster.cluster_processes(local)
    assert not Path(local.folder).exists()
    assert not Path(local.token_path).exists()
    refused = run_jobs("status", job)
    assert refused.returncode == 2
    assert "error: there is no Ray cluster to talk to" in refused.stderr
    assert run_jobs("down").stdout.strip() == "no cluster was started here"


def test_a_cluster_that_died_is_cleared_up(run_jobs: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBS_STATE_DIR", str(folder / "state"))
    gone = Path(tempfile.mkdtemp(prefix="arp-"))
    token = local_state.write_token("dead")
    local_state.write_cluster(
        local_state.LocalCluster("http://127.0.0.1:9", 2**22 - 1, 1.0, "dead", str(gone), str(token))
    )
    refused = run_jobs("list")
    assert refused.returncode == 2
    assert "error: there is no Ray cluster to talk to" in refused.stderr
    assert "stopped" in run_jobs("down").stdout
    assert not gone.exists()
    assert not token.exists()


def test_unreachable_addresses(run_jobs: Run) -> None:
    refused = run_jobs("list", "--address", "http://127.0.0.1:9")
    assert refused.returncode == 2
    assert refused.stderr.strip() == (
        "error: address=http://127.0.0.1:9: no Ray job server answers there (Connection refused)"
    )
