"""Features of plain files over two nodes, one of which does not see the files, or not all of them."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs.two_nodes import Nodes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
CLIPS = ["--num-clips", "1", "--crop-size", "32", "--batch-size", "2", "--num-workers", "0"]


@pytest.fixture(scope="module")
def nodes(folder: Path, originals: Path) -> Iterator[Nodes]:
    """A cluster of two nodes; the second sees an empty folder in place of videos/run."""
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("mounts of one node alone are not permitted here")
    shutil.copytree(originals, folder / "videos")
    started = Nodes(folder)
    try:
        started.add(hidden=folder / "videos" / "run")
        yield started
    finally:
        for number in reversed(range(len(started.nodes))):
            started.kill(number)


@pytest.mark.parametrize(
    ("videos", "sentence"),
    [
        (
            "videos/run",
            r"error: node \S+: videos=\S*videos/run: no video in this folder; give a folder that all nodes share, at "
            r"the same path, or pack the videos and give --data",
        ),
        (
            "videos",
            r"error: out='\S+': the processes have different settings or see different videos \(12 videos on node \S+, "
            r"6 videos on node \S+\); give all the same command line and the same files, and change no video meanwhile",
        ),
    ],
)
def test_a_node_that_does_not_see_the_files(
    nodes: Nodes, folder: Path, checkpoint: Path, videos: str, sentence: str
) -> None:
    out = folder / f"{Path(videos).name}.parquet"
    words = ["--checkpoint", str(checkpoint), "--videos", str(folder / videos), "--out", str(out)]
    job = nodes.drive(folder, ["features", *words, *CLIPS], num_workers=2, placement="SPREAD")
    printed, _ = job.communicate(timeout=250)
    assert job.returncode == 1
    assert re.fullmatch(sentence, printed.strip().splitlines()[-1]), printed
    assert "Traceback" not in printed
    assert not out.exists()
