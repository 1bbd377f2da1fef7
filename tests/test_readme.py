"""Every command of the README is run here, in order, in a copy of the repository, or is marked there as not run."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
NOT_RUN = re.compile(r"#\s*not run: \S+")


def commands(heading: str) -> list[str]:
    """The commands in the fenced blocks of a section, those marked as not run left out."""
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, flags=re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#") and not NOT_RUN.search(line)]


@pytest.fixture
def copy(tmp_path):
    """A copy of what git tracks, as a clone has it."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=True).stdout
    for name in files.decode().split("\0"):
        if name and (REPOSITORY / name).is_file():
            (tmp_path / "clone" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, tmp_path / "clone" / name)
    return tmp_path / "clone"


@pytest.fixture
def run(copy):
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


def test_every_fenced_command_belongs_to_a_section_that_is_run():
    sections = {"The steps, one by one", "On real video", "Models and published weights"}
    for part in README.split("\n## ")[1:]:
        heading = part.splitlines()[0]
        assert heading in sections or commands(heading) == [], f"the commands of {heading!r} are not run by a test"


def test_every_package_file_has_a_line_in_the_tree():
    tree = README.split("## What is where")[1].split("## Recipes")[0]
    for package in ("datamodules", "lightning_modules", "pipeline", "jobs"):
        for path in sorted((REPOSITORY / package).glob("*.py")):
            if path.name not in ("__init__.py", "__main__.py"):
                assert re.search(rf"\b{path.name}\b", tree), f"{package}/{path.name} is not in the README's tree"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_steps_one_by_one(run, copy):
    for line in commands("The steps, one by one"):
        run(line)
    report = json.loads((copy / "tour/results/linear/report.json").read_text())
    assert report["num_videos"] == 32


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_real_video(run, copy, shared_dir):
    for line in commands("On real video"):
        run(line, FIGHTS=str(shared_dir / "data" / "surveillance_fights"))
    reports = [json.loads((copy / f"fights/results/{name}/report.json").read_text()) for name in ("c3d", "linear")]
    assert [report["num_videos"] for report in reports] == [61, 61]
    # Above chance by more than luck: of 61 videos of two classes 40 right have probability 0.01 under chance.
    assert max(report["top1"] for report in reports) >= 40 / 61


@pytest.mark.slow
def test_published_weights(run, shared_dir):
    printed = [
        run(line, KINETICS=str(shared_dir / "data" / "kinetics_sample"))
        for line in commands("Models and published weights")
    ]
    assert any(re.search(r"100\.0%  arm wrestling", text) for text in printed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo(run, copy):
    printed = run("bash demo.sh demo")
    accuracy = {
        name: json.loads((copy / f"demo/results/{name}/report.json").read_text())["top1"]
        for name in ("c3d", "linear", "still")
    }
    assert accuracy["c3d"] > 0.8
    assert accuracy["linear"] > 0.5
    assert accuracy["still"] < 0.25  # chance is 0.125; three standard deviations of 80 videos above
    assert "wandb run" in printed
