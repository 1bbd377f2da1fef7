"""A run that goes on with the nodes that are there: one is killed, one comes, one is told to leave."""

import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from datamodules.dataset.dataset_index import DatasetIndex
from jobs.spec.job import OVERLAY_FILE
from jobs.spec.job_spec import JobSpec
from jobs.storage.run_folder import RunFolder
from jobs.submission.submit import overlay
from jobs.submission.upload import stage_upload
from tests.jobs.training import fault_injection
from tests.jobs.two_nodes import Nodes
from tests.pipeline.gray_videos import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
EPOCHS = 6
RATE = 0.01  # for 4 videos a step: 2 of each of 2 ranks
SETTINGS = {"num_workers": 2, "min_workers": 1, "grow_check_s": 3.0, "checkpoint_every_n_steps": 3}
CONFIG = ["fit", "--config", "elastic.yaml"]


@pytest.fixture
def origin(folder: Path, motion_dataset: Path) -> Path:
    """The folder of submit: a config and a module."""
    data = {"root": str(motion_dataset), "batch_size": 2, "crop_size": 32, "flip_probability": 0.0, "num_workers": 0}
    model = {"width": 2, "num_frames": 16, "crop_size": 32, "lr_schedule": "constant", "learning_rate": RATE}
    seen = {"class_path": "fault_injection.BatchRecorder", "init_args": {"folder": str(folder / "seen"), "delay": 1.0}}
    trainer = {"max_epochs": EPOCHS, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    content = {
        "model": {"class_path": "C3D", "init_args": model | {"scale_learning_rate_from": 4}},
        "data": {"class_path": "ShardedVideoDataModule", "init_args": data},
        "trainer": trainer | {"callbacks": [seen], "limit_val_batches": 0},
    }
    (folder / "seen").mkdir()
    (folder / "elastic.yaml").write_text(yaml.safe_dump(content))
    shutil.copy(Path(fault_injection.__file__), folder)
    return folder


@pytest.fixture
def nodes(origin: Path) -> Iterator[Nodes]:
    """A cluster of one node, which sees what submit would upload."""
    code = origin / "upload"
    stage_upload(CONFIG, origin, code)
    (code / OVERLAY_FILE).parent.mkdir()
    (code / OVERLAY_FILE).write_text(overlay(JobSpec(**SETTINGS)))
    started = Nodes(origin, code)
    yield started
    for number in reversed(range(len(started.nodes))):
        started.kill(number)


@dataclass
class Attempt:
    """What the ranks of an attempt noted."""

    began: float
    start: int
    lines: list[list[str]]


def attempts(folder: Path) -> list[Attempt]:
    """In order."""
    groups: dict[str, list[list[list[str]]]] = defaultdict(list)
    for path in folder.iterdir():
        lines = [line.split() for line in path.read_text().splitlines()]
        if lines:
            groups[path.stem.partition("-")[0]].append(lines)
    made = []
    for ranks in groups.values():
        [(began, start), *_] = [lines[0] for lines in ranks]
        made.append(Attempt(float(began), int(start), [fields for lines in ranks for fields in lines[1:]]))
    return sorted(made, key=lambda attempt: attempt.began)


def test_nodes_come_and_go(nodes: Nodes, origin: Path, motion_dataset: Path) -> None:
    log = origin / "job.log"
    seen = origin / "seen"

    def trains(attempt: int, steps: int) -> Callable[[], bool]:
        """Whether all ranks of an attempt have done so many steps."""
        return lambda: len(found := attempts(seen)) > attempt and len(found[attempt].lines) >= steps

    second = nodes.add()
    arguments = ["fit", "--config", str(origin / "elastic.yaml")]
    with log.open("w") as output:
        job = nodes.drive(
            origin, arguments, output=output, name="elastic", stop_timeout_s=60, max_failures=2, **SETTINGS
        )
    try:
        wait_for(trains(0, 8), 240)
        nodes.kill(second)
        killed = time.monotonic()
        wait_for(trains(1, 2), 300)
        print(f"with 1 rank {time.monotonic() - killed:.0f} s after the node was killed")
        third = nodes.add()
        joined = time.monotonic()
        wait_for(trains(2, 6), 300)
        print(f"with 2 ranks {time.monotonic() - joined:.0f} s after a node joined")
        nodes.terminate(third)
        told = time.monotonic()
        wait_for(trains(3, 2), 300)
        print(f"with 1 rank {time.monotonic() - told:.0f} s after a node was told to end")
        seen.with_suffix(".hurry").touch()
        assert job.wait(300) == 0
    finally:
        job.kill()
        print(log.read_text())
    found = attempts(seen)
    sizes = [{int(fields[2]) for fields in attempt.lines} for attempt in found]
    assert sizes == [{2}, {1}, {2}, {1}]
    printed = log.read_text()
    failures = RunFolder(str(origin), "elastic").read_failures()
    assert len(failures) == 1, "growing and leaving are none"
    lost = [before.lines[-1][1] for before in found[:-1]]
    assert [int(last) + 1 == after.start for last, after in zip(lost, found[1:], strict=True)][1:] == [True, True]
    assert "left: the cluster has capacity for more workers" in printed
    assert "is going away" in printed
    keys = defaultdict(list)
    for number, attempt in enumerate(found):
        until = found[number + 1].start if number + 1 < len(found) else 10**9
        for epoch, step, _, _, *names in attempt.lines:
            if int(step) < until:  # what came after the checkpoint that the next attempt went on from was trained again
                keys[int(epoch)] += names
    index = DatasetIndex.open(motion_dataset)
    train = sorted(index.entry(int(row)).key for row in index.rows("train"))
    assert sorted(keys) == list(range(EPOCHS))
    assert all(sorted(names) == train for names in keys.values()), "each epoch has each video once"
    rates = [{(int(fields[2]), float(fields[3])) for fields in attempt.lines} for attempt in found]
    assert rates == [{(2, RATE)}, {(1, RATE / 2)}, {(2, RATE)}, {(1, RATE / 2)}], "from the first step on"
