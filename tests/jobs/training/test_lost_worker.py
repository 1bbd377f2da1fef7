"""A DataLoader worker of one train worker is killed: the job ends, on all ranks, and its last line names the video."""

import json
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from jobs.client import local_state
from tests.datamodules.storage.flaky_server import serving
from tests.jobs.conftest import SPEC, Run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def data_loader_workers(cluster: local_state.LocalCluster) -> Iterator[int]:
    """Processes that a fork server of this cluster has started, the DataLoader workers of its train workers for one."""
    mark = f"{local_state.CLUSTER_MARK}={cluster.mark}".encode()
    parents, servers = {}, set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            ours = mark in (folder / "environ").read_bytes().split(b"\0")
            if ours and b"multiprocessing.forkserver" in (folder / "cmdline").read_bytes():
                servers.add(int(folder.name))
    return (pid for pid in servers if parents[pid] in servers)


def test_the_job_ends_with_the_key(
    local: local_state.LocalCluster, run_jobs: Run, folder: Path, motion_dataset: Path
) -> None:
    others = set(data_loader_workers(local))  # Ray's dashboard has fork servers of its own
    with serving(motion_dataset) as server:
        data = {"root": server.url, "batch_size": 2, "num_frames": 16, "crop_size": 32, "flip_probability": 0.0}
        content = {
            "model": {"class_path": "C3D", "init_args": {"width": 2, "num_frames": 16, "crop_size": 32}},
            "data": {"class_path": "ShardedVideoDataModule", "init_args": data | {"num_workers": 1, "val_split": None}},
            "trainer": {"max_epochs": 50, "logger": False, "enable_checkpointing": False},
        }
        (folder / "slow.yaml").write_text(yaml.safe_dump(content))
        arguments = ["submit", "--spec", SPEC, "--name", "lost", "--max_failures", "0", "--no_check", "--"]
        job = run_jobs(*arguments, "fit", "--config", "slow.yaml", XDG_CACHE_HOME=str(folder)).stdout.split()[1]
        deadline = time.monotonic() + 150
        while len(server.served) < 30 and time.monotonic() < deadline:
            time.sleep(0.2)
        # Not for long: the rank whose worker is lost may wait in a collective for the other one, which waits for data.
        server.faults, server.every, server.stall_s = ("stall",), 1, 20
        time.sleep(2)
        assert len(server.served) >= 30, run_jobs("logs", job).stdout[-3000:]
        [victim, *rest] = sorted(set(data_loader_workers(local)) - others)
        os.kill(victim, signal.SIGKILL)
        killed = time.monotonic()
        followed = run_jobs("logs", job, "--follow", timeout_s=100)
        print(f"the job ended {time.monotonic() - killed:.0f} s after SIGKILL")
        while any(Path(f"/proc/{pid}").exists() for pid in rest) and time.monotonic() < killed + 60:
            time.sleep(0.2)
        assert not [pid for pid in rest if Path(f"/proc/{pid}").exists()]
    assert followed.returncode != 0
    sentence = (
        rf"DataLoader worker 0 \(process {victim}\) was lost: killed by SIGKILL.*; it was reading (video|no video)"
    )
    # The last line, or the one before those that say how to go on from a checkpoint, where there is one already.
    last = [line for line in followed.stdout.strip().splitlines()[-3:] if line.startswith("error: ")]
    assert len(last) == 1, followed.stdout[-3000:]
    assert re.search(sentence, last[0])
    [failure] = map(json.loads, (folder / "runs" / "lost" / "failures.jsonl").read_text().splitlines())
    assert re.search(sentence, failure["reason"])
