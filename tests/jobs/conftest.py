"""A local cluster for the tests of this folder: started by the command, always ended."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.client import local_cluster, local_state
from tests.jobs.own_module import write_project
from tests.pipeline.gray_videos import write_originals

REPOSITORY = Path(__file__).resolve().parents[2]
SPEC = str(REPOSITORY / "jobs" / "configs" / "cpu_2_workers.yaml")
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The folder of submit; a short path, as the state folder below it too."""
    path = Path(tempfile.mkdtemp(prefix="jobs-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos to pack in two folders, and list.csv. Read-only."""
    return write_originals(tmp_path_factory.mktemp("originals"))


@pytest.fixture(scope="session")
def checkpoint(motion_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A very small C3D after an epoch on the motion dataset. Read-only."""
    from tests.pipeline.conftest import fit  # here: most tests of jobs need no Lightning in this process

    return fit(motion_dataset, tmp_path_factory.mktemp("fit"))


@pytest.fixture
def submit_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a project, where this process is now; from here no cluster is known."""
    write_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JOBS_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


def environment_in(folder: Path) -> dict[str, str]:
    """Of a command that a person types in the folder of submit."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "WANDB_"))}
    return environment | {
        "JOBS_STATE_DIR": str(folder / "state"),
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def run_jobs(folder: Path) -> Iterator[Run]:
    """Runs `python -m jobs WORDS` in the folder of submit, as a person does; in the end no process is left."""
    environment = environment_in(folder)

    def run(*arguments: str, timeout_s: float = 200, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jobs", *arguments]
        whole = environment | variables
        return subprocess.run(
            command, cwd=folder, env=whole, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    yield run
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOBS_STATE_DIR", str(folder / "state"))
        recorded = local_state.read_cluster()
        local_cluster.stop_cluster()
    if recorded is not None:
        assert not local_cluster.cluster_processes(recorded)


@pytest.fixture(scope="module")
def local(folder: Path, run_jobs: Run) -> local_state.LocalCluster:
    """A cluster that `up` started."""
    write_project(folder)
    finished = run_jobs("up", "--num_cpus", "2")
    assert finished.returncode == 0, finished.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JOBS_STATE_DIR", str(folder / "state"))
        recorded = local_state.read_cluster()
    assert recorded is not None
    assert recorded.address in finished.stdout
    return recorded


def wait_for_log(run_jobs: Run, job: str, pattern: str, seconds: float = 150) -> re.Match[str]:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        log = run_jobs("logs", job).stdout
        if found := re.search(pattern, log):
            return found
        time.sleep(0.5)
    raise AssertionError(f"{pattern!r} never appeared in:\n{log}")
