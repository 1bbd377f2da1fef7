"""The size of an upload against what Ray makes of it and takes; modules from elsewhere; what a dry run says."""

import importlib
import logging
import sys
from pathlib import Path

import pytest
from ray._private.runtime_env.packaging import create_package

from jobs.__main__ import main
from jobs.client.local_resources import describe_cpus
from jobs.submission.preflight import check_configuration
from jobs.submission.py_modules import copy_modules
from jobs.submission.upload import archive_bytes, check_size, stage_upload, upload_sizes
from pipeline.processes.machine import num_processors
from tests.jobs.own_module import write_project


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A package and a module of the user's, outside the folder of submit."""
    folder = tmp_path / "elsewhere"
    for name, text in {
        "my_models/__init__.py": "",
        "my_models/blocks/deep.py": "x = 1",
        "my_models/blocks/__init__.py": "",
        "my_models/defaults.yaml": "a: 1",
        "my_models/weights.bin": "w",
        "my_models/.env": "s",
        "single.py": "y = 2",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_the_archive_is_as_large_as_ray_makes_it(tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    (staged / "sub" / "ö").mkdir(parents=True)
    for number, name in enumerate(("a.py", "sub/b.csv", "sub/ö/c.txt", "empty.txt")):
        (staged / name).write_bytes(b"x" * 1000 * number)
    package = tmp_path / "package.zip"
    create_package(str(staged), package, include_gitignore=True, logger=logging.getLogger("quiet"))
    assert archive_bytes(upload_sizes(staged)) == package.stat().st_size


def test_the_biggest_files_are_named_when_there_is_too_much(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"x" * 3 * 2**20)
    (tmp_path / "b.csv").write_bytes(b"x" * 2**20)
    total = check_size(tmp_path)
    assert check_size(tmp_path, limit=total) == total
    with pytest.raises(ValueError, match=r"more than the 4\.\d+ MiB that Ray takes.*a\.csv \(3\.00 MiB\), b\.csv"):
        check_size(tmp_path, limit=total - 1)


def test_modules_from_elsewhere_travel_by_name_and_by_path(
    elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(elsewhere)])
    importlib.invalidate_caches()
    by_name, by_path = tmp_path / "by_name", tmp_path / "by_path"
    copy_modules(["my_models", "single"], tmp_path, by_name)
    copy_modules(["elsewhere/my_models", str(elsewhere / "single.py")], tmp_path, by_path)
    expected = {"my_models/__init__.py", "my_models/blocks/__init__.py", "my_models/blocks/deep.py"}
    for target in (by_name, by_path):
        found = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
        assert found == expected | {"my_models/defaults.yaml", "single.py"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere_to_be_found", "can neither be imported"),
        ("absent/package", "there is no such file or folder"),
        ("jobs", "travel anyway"),
        ("elsewhere/my_models/weights.bin", r"must be a \.py file or a package's folder"),
        ("math", "is not Python code that could travel"),
    ],
)
def test_modules_that_cannot_travel(elsewhere: Path, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        copy_modules([name], tmp_path, tmp_path / "target")


def test_a_compiled_part_is_refused(elsewhere: Path, tmp_path: Path) -> None:
    (elsewhere / "my_models" / "fast.so").write_bytes(b"")
    with pytest.raises(ValueError, match=r"has a compiled part \(fast\.so\).*install it on the cluster's nodes"):
        copy_modules(["elsewhere/my_models"], tmp_path, tmp_path / "target")


def test_a_model_from_elsewhere_is_read_from_the_upload_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    project, staged = tmp_path / "project", tmp_path / "staged"
    write_project(project)
    (tmp_path / "theirs").mkdir()
    (project / "own_module.py").rename(tmp_path / "theirs" / "own_module.py")
    (tmp_path / "stays").mkdir()
    (tmp_path / "stays" / "left_behind.py").write_text("")
    (project / "finder.py").write_text(f"import sys; sys.path.append({str(tmp_path / 'stays')!r}); import left_behind")
    (tmp_path / "theirs" / "own_module.py").write_text(
        "import finder\n" + (tmp_path / "theirs" / "own_module.py").read_text()
    )
    args = stage_upload(["fit", "--config", "mine.yaml"], project, staged, py_modules=["../theirs/own_module.py"])
    assert "class_path: own_module.Model" in check_configuration(args, staged, project)
    said = capsys.readouterr().err
    assert f"note: the module left_behind is read from {tmp_path}/stays/left_behind.py here and does not travel" in said
    assert len(said.splitlines()) == 1, "and no other"


def test_a_dry_run_says_what_would_run_and_starts_nothing(
    submit_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["submit", "--dry-run", "--no-check", "--name", "a", "--num-workers", "2", "--cpus-per-worker", "3"]
    arguments += ["--placement", "SPREAD", "--env", '{"A": "b c"}', "--", "fit", "--config", "mine.yaml"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    for said in (
        "command:     python -m pipeline fit --config mine.yaml",
        "entrypoint:  python -m jobs.driver .submission/job.json -- fit --config upload:mine.yaml",
        f"cluster:     a local one, which would be started {describe_cpus(max(6, num_processors()))}",
        f"run folder:  {submit_folder}/runs/a",
        "workers:     2, each with 3 CPU and 0 GPU; 6 CPU and 0 GPU in all; placement SPREAD",
        "  A='b c'",
        "  OMP_NUM_THREADS=3",
        "  placement: SPREAD",
        "nothing was started",
    ):
        assert said in lines
    [upload] = [line for line in lines if line.startswith("upload:")]
    assert "MiB of the 100 MiB that Ray takes; the biggest: " in upload
    assert {path.name for path in (submit_folder / "state").iterdir()} <= {"lock"}
    assert not (submit_folder / "runs").exists()
