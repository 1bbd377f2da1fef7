"""What several test files share: where the real clips are, and how to run a command as a person does."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.ordinary_priority import is_real_time
from tests.s3_server import s3_server  # noqa: F401 # a fixture, one server for all

REPOSITORY = Path(__file__).resolve().parent.parent

# One thread for each of several test processes: with two threads each, two processes on two processors took 92 s for 71
# tests that take 37 s so.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background job ignores Ctrl-C, and so would every command that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Hypothesis fails an example that takes 0.2 s, which on a busy machine any may.
settings.register_profile("without a clock", deadline=None)
settings.load_profile("without a clock")


# Units of work that take minutes. Two of them start clusters, and no more than two processes do so at a time.
LONG_UNITS = ("tests/jobs", "tests/test_docs_commands.py", "tests/test_docs_without_jobs.py")


def work_unit(nodeid: str) -> str:
    """The tests that one process of pytest-xdist runs one after the other: those of a file, or of all of jobs."""
    return "tests/jobs" if nodeid.startswith("tests/jobs/") else nodeid.partition("::")[0]


class FileScheduling(LoadScopeScheduling):
    """Distribution of tests over the processes of pytest-xdist by `work_unit`, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return work_unit(nodeid)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Orders the tests that several processes share: long units first, then by the number of tests.

    What begins last decides when all have ended, and should be short.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        sizes = Counter(work_unit(item.nodeid) for item in items)
        ranks = {unit: (unit not in LONG_UNITS, -size) for unit, size in sizes.items()}
        items.sort(key=lambda item: ranks[work_unit(item.nodeid)])


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests of a GPU where there is none, and slow tests that CI would begin too late to end within its limit."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device: run `make gpu-check` on a machine with a GPU")
    until = float(os.environ.get("SLOW_TESTS_BEGIN_UNTIL") or "inf")
    if item.get_closest_marker("slow") and time.time() > until:
        pytest.skip("CI's time is up on this machine: run `make test-slow`")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> FileScheduling:
    """The scheduler of `make test`. The marks of pytest-xdist 3.8, `xdist_group`, have no effect with pytest 9.2."""
    config.option.loadscopereorder = False  # it would order by the number of tests alone
    return FileScheduling(config, log)


@pytest.fixture(autouse=True)
def ordinary_scheduling() -> Iterator[None]:
    """A test must not leave this process, and all that it starts, in front of all others."""
    yield
    assert not is_real_time(), "a library gave this process real-time priority: see tests/ordinary_priority.py"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real clips: $SHARED_DIR, else ../shared; a missing one is an error in CI and a skip elsewhere."""
    folder = Path(os.environ.get("SHARED_DIR", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{folder / 'data'} is not there: CI must have the real clips; set SHARED_DIR")
        pytest.skip(f"no real clips at {folder / 'data'}: set SHARED_DIR to test on them")
    return folder


@pytest.fixture(scope="session")
def flow_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Textures that move right, left, down or up by 3 pixels a frame, packed with their flow, 96 x 64. Read-only.

    Four train, one val and two test videos a class, of 9 frames; the files are in the folder `videos` beside it.
    """
    from pipeline.packing.pack import pack
    from pipeline.packing.pack_options import PackOptions
    from tests.moving_textures import MOTIONS, moving_video

    folder = tmp_path_factory.mktemp("flow")
    (folder / "videos").mkdir()
    lines = ["path,label,split"]
    for name, motion in MOTIONS.items():
        for number, split in enumerate(["train"] * 4 + ["val"] + ["test"] * 2):
            (folder / f"videos/{name}{number}.mp4").write_bytes(moving_video(motion, 9, seed=number))
            lines.append(f"{name}{number}.mp4,{name},{split}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    pack(PackOptions(folder / "shards", [folder / "list.csv"], folder / "videos", flow=True, processes=1))
    return folder / "shards"


@pytest.fixture(scope="session")
def motion_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed dataset of 8 motion classes: 5 train, 1 val and 2 test videos a class, 24 frames of 64 x 48.

    Made once a session by the verbs that a person uses. Read-only.
    """
    from pipeline.dataset_tools.synthesize import SynthesizeOptions, synthesize
    from pipeline.packing.pack import pack
    from pipeline.packing.pack_options import PackOptions

    folder = tmp_path_factory.mktemp("motion")
    synthesize(SynthesizeOptions(folder / "videos", 1, train=5, val=1, test=2, num_frames=24, width=64, height=48))
    lists = [folder / "videos" / f"{split}.csv" for split in ("train", "val", "test")]
    pack(PackOptions(folder / "shards", lists, folder / "videos", videos_per_shard=16, processes=1))
    return folder / "shards"


@pytest.fixture(scope="session")
def unbalanced_dataset(motion_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of the motion dataset, of three classes: 11, 4 and 1 for training, and 1 a class in val. Read-only."""
    from datamodules.dataset.dataset_index import DatasetIndex
    from tests.relabelled_dataset import write_relabelled

    index = DatasetIndex.open(motion_dataset)
    train, val = (index.rows(split).tolist() for split in ("train", "val"))
    labels = dict(zip(train, ["often"] * 11 + ["seldom"] * 4 + ["once"], strict=False))
    labels |= dict(zip(val, ["often", "seldom", "once"], strict=False))
    return write_relabelled(index, tmp_path_factory.mktemp("unbalanced") / "shards", labels)


@pytest.fixture(scope="session")
def segments_dataset(motion_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two overlapping segments of each test video, frames 0 to 17 and 5 to 24 of 24 at 25/s, and three of 5 others.

    The others are for training. Read-only.
    """
    import csv

    from datamodules.dataset.dataset_index import DatasetIndex
    from pipeline.packing.pack import pack
    from pipeline.packing.pack_options import PackOptions

    folder, index = tmp_path_factory.mktemp("segments"), DatasetIndex.open(motion_dataset)
    times = {"test": ((0.0, 0.68), (0.2, 0.96)), "train": ((0.0, 0.5), (0.4, ""), (0.2, 0.6))}
    rows = [*index.rows("test").tolist(), *index.rows("train")[:5].tolist()]
    with (folder / "list.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "start", "end", "label", "split"])
        for entry in map(index.entry, rows):
            label = index.classes[entry.label]
            writer.writerows([entry.source, *span, label, entry.split] for span in times[entry.split])
    videos = motion_dataset.parent / "videos"
    pack(PackOptions(folder / "shards", [folder / "list.csv"], videos, videos_per_shard=9, processes=1))
    return folder / "shards"


@pytest.fixture(scope="session")
def unlabelled_dataset(motion_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of the motion dataset without labels: 13 in train and 7 in test. Read-only."""
    from datamodules.dataset.dataset_index import DatasetIndex
    from tests.relabelled_dataset import write_relabelled

    index = DatasetIndex.open(motion_dataset)
    rows = [*index.rows("train")[:13].tolist(), *index.rows("test")[:7].tolist()]
    return write_relabelled(index, tmp_path_factory.mktemp("unlabelled") / "shards", dict.fromkeys(rows, ""))


@pytest.fixture(scope="session", params=["motion_dataset", "segments_dataset", "unlabelled_dataset"])
def any_dataset(request: pytest.FixtureRequest) -> Path:
    """A dataset of each kind: whole videos, overlapping segments, and videos without labels. Read-only."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


@pytest.fixture(scope="session")
def packed_anew(motion_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The videos of the motion dataset packed smaller, in other shards, under another name. Read-only."""
    from pipeline.packing.pack import pack
    from pipeline.packing.pack_options import PackOptions

    folder, videos = tmp_path_factory.mktemp("anew"), motion_dataset.parent / "videos"
    lists = [videos / f"{split}.csv" for split in ("train", "val", "test")]
    pack(PackOptions(folder / "smaller", lists, videos, short_side=32, processes=1))
    return folder / "smaller"


@pytest.fixture(scope="session")
def i3d_weights() -> Path:
    """The file of the published I3D: from the user's cache, else got with pip."""
    from lightning_modules.weights.download import fetch, find_published

    return fetch(find_published("i3d-kinetics400-rgb"))


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what git tracks, as a clone has it."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    for name in files.decode().split("\0"):
        if name and (REPOSITORY / name).is_file():
            (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, tmp_path / "clone" / name)
    return tmp_path / "clone"


@pytest.fixture
def run(copy: Path) -> Iterator[Callable[..., str]]:
    """Runs a command line in the copy, with this environment's python; ends the cluster that it may have started."""
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "JOBS_STATE_DIR": tempfile.mkdtemp(prefix="jobs-"),  # Ray's sockets need a short path
        "WANDB_MODE": "offline",
    }
    environment.pop("RAY_ADDRESS", None)

    def call(line: str, **more: str) -> str:
        result = subprocess.run(
            ["bash", "-c", line], cwd=copy, env=environment | more, capture_output=True, text=True, timeout=1200
        )
        assert result.returncode == 0, f"$ {line}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
        return result.stdout

    yield call
    subprocess.run([sys.executable, "-m", "jobs", "down"], cwd=copy, env=environment, check=False)
    shutil.rmtree(environment["JOBS_STATE_DIR"], ignore_errors=True)
