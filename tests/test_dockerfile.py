"""The Dockerfile, of which no image is made here: its instructions, and that what it copies installs and runs."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def read_instructions() -> list[tuple[str, str]]:
    """(Instruction, arguments), with continued lines joined and comments left out."""
    text = (REPOSITORY / "Dockerfile").read_text()
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^\s*#.*\n", "", text)).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]  # type: ignore[misc]


def arguments_of(name: str) -> list[str]:
    return [arguments for instruction, arguments in read_instructions() if instruction == name]


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the COPY instructions bring to /app, as far as .dockerignore lets it through."""
    allowed = {line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    app = tmp_path_factory.mktemp("image") / "app"
    app.mkdir()
    for *sources, target in map(str.split, arguments_of("COPY")):
        for source in sources:
            assert source in allowed, f".dockerignore keeps {source} out"
            if (REPOSITORY / source).is_dir():
                assert target == f"/app/{source}"
                shutil.copytree(REPOSITORY / source, app / source, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                assert target == "/app/"
                shutil.copy(REPOSITORY / source, app)
    return app


def test_the_build_arguments_choose_python_torch_and_extras() -> None:
    arguments = dict(argument.split("=") for argument in arguments_of("ARG"))
    assert arguments.keys() == {"PYTHON", "TORCH", "EXTRAS"}
    oldest = tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))
    assert tuple(map(int, arguments["PYTHON"].split("."))) >= oldest
    assert set(arguments["EXTRAS"].split(",")) <= PROJECT["optional-dependencies"].keys()


@pytest.mark.parametrize(
    ("torch", "index"), [("cpu", "--index-url https://download.pytorch.org/whl/cpu"), ("cuda", "")]
)
def test_torch_is_the_pinned_one_of_the_chosen_index(torch: str, index: str, app: Path) -> None:
    """The instruction itself is run, with a `pip` that prints what it is told to install."""
    [install] = [run for run in arguments_of("RUN") if "torch==" in run]
    script = f'pip() {{ echo "$@"; }}; TORCH={torch}; {install.replace("/app/", f"{app}/")}'
    printed = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=True).stdout.split()
    [pin] = re.findall(r"(?m)^torch==.*$", (REPOSITORY / "constraints.txt").read_text())
    assert printed == ["install", "--no-cache-dir", *index.split(), pin]


def test_it_runs_as_a_user_without_rights_and_is_checked() -> None:
    names = [instruction for instruction, _ in read_instructions()]
    [user] = arguments_of("USER")
    assert any(re.search(rf"useradd .*--uid 1000 {user}\b", run) for run in arguments_of("RUN"))
    assert max(i for i, name in enumerate(names) if name in ("RUN", "COPY")) < names.index("USER")
    [check] = arguments_of("HEALTHCHECK")
    command = check.partition("CMD ")[2]
    assert subprocess.run(["sh", "-nc", command]).returncode == 0
    assert "ray status" in command


def test_what_it_copies_is_the_distribution_and_runs(app: Path) -> None:
    build = (
        "import sys; from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel(sys.argv[1]))"
    )
    made = subprocess.run(
        [sys.executable, "-c", build, str(app.parent)], cwd=app, capture_output=True, text=True, check=True
    )
    assert made.stdout.splitlines()[-1].startswith(PROJECT["name"].replace("-", "_"))
    assert list(app.parent.glob("*.dist-info/**/LICENSE"))
    for package in ("pipeline", "jobs"):
        command = [sys.executable, "-P", "-m", package, "--help"]
        helped = subprocess.run(command, cwd=app, env={"PYTHONPATH": str(app)}, capture_output=True, text=True)
        assert helped.returncode == 0, helped.stderr
        assert "usage: " in helped.stdout


def test_the_kuberay_template_names_it() -> None:
    template = (REPOSITORY / "jobs" / "templates" / "kuberay_rayjob.yaml").read_text()
    [line] = re.findall(r"(?m)^#   IMAGE .*$", template)
    assert "Dockerfile" in line
    assert "cd /app && python -m jobs submit" in template
    assert arguments_of("WORKDIR") == ["/app"]
