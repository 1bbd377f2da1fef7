"""Packing over two nodes: one of them dies, or does not see what the other sees."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from datamodules.annotations.records import VideoRecord
from pipeline.packing.shard_plan import order_records, plan_parts
from tests.jobs.two_nodes import Nodes
from tests.pipeline.gray_videos import NUM_VIDEOS, command, digests, make_endless, split_of, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
PACK = ["pack", "--annotations", "videos/list.csv", "--videos-per-shard", "3", "--fps", "10"]


@pytest.fixture(scope="module")
def nodes(folder: Path) -> Iterator[Nodes]:
    """A cluster of one node, to which the tests add others."""
    started = Nodes(folder)
    yield started
    for number in reversed(range(len(started.nodes))):
        started.kill(number)


def endless_in_two_parts(videos: Path) -> list[Path]:
    """Makes a video in each of two parts endless, so that two tasks hang; returns them."""
    records = [VideoRecord("", f"{('walk', 'run')[n % 2]}_{n}", "", split_of(n), "") for n in range(NUM_VIDEOS)]
    parts = plan_parts(order_records(records), "out", {"test": [2, 2], "train": [2, 3, 3]})
    found = [videos / (part.records[1].key.replace("_", "/") + ".mp4") for part in (parts[1], parts[3])]
    for path in found:
        make_endless(path)
    return found


def test_a_node_that_dies(nodes: Nodes, folder: Path, originals: Path) -> None:
    subprocess.run(command(folder / "whole" / "out", originals), check=True, capture_output=True)
    shutil.copytree(originals, folder / "videos")
    endless = endless_in_two_parts(folder / "videos")
    second = nodes.add()
    job = nodes.drive(folder, [*PACK, "--out", "out"], num_workers=2)
    wait_for(lambda: nodes.tasks(0) and nodes.tasks(second) and len(list((folder / "out").glob(".*.partial"))) == 2)
    time.sleep(1)
    for path in endless:
        shutil.copyfile(originals / path.relative_to(folder / "videos"), path)
    killed = time.monotonic()
    nodes.kill(second)
    wait_for(lambda: len(list((folder / "out").glob("*.tar"))) or job.poll() is not None)
    others = nodes.tasks(0)[:1]  # on a busy machine it may be between two tasks
    for task in others:
        os.kill(task, signal.SIGKILL)  # it hangs too
    printed, _ = job.communicate(timeout=150)
    print(f"ended {time.monotonic() - killed:.1f} s after the node was killed")
    assert job.returncode == 0, printed
    assert printed.count("was begun again: its process or node was lost") == 1 + len(others)
    assert digests(folder / "out") == digests(folder / "whole" / "out")
    assert not list((folder / "out").rglob("*.partial"))


def test_a_node_that_does_not_see_the_videos(nodes: Nodes, folder: Path) -> None:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounts of one node alone are not permitted here; the check is tested as a function anyway")
    nodes.add(hidden=folder / "videos")
    job = nodes.drive(folder, [*PACK, "--out", "out2"], num_workers=2)
    printed, _ = job.communicate(timeout=150)
    assert job.returncode == 1
    last = printed.strip().splitlines()[-1]
    assert last.startswith("error: node ")
    assert "does not see the videos in videos that the others see (such as videos/" in last
    assert "Traceback" not in printed
    assert not (folder / "out2" / "dataset.json").exists()
    assert not (folder / "out2" / "quarantine.csv").exists(), "nothing was taken for absent"
