"""What pip installs: the four packages with their configs, and no tests."""

import subprocess
import sys
import zipfile

import pytest

from tests.conftest import REPOSITORY


@pytest.mark.slow
def test_the_wheel_holds_the_packages_their_configs_and_no_tests(tmp_path):
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(REPOSITORY)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    [wheel] = tmp_path.glob("action_recognition_pipeline-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"datamodules", "lightning_modules", "pipeline", "jobs"}
    for package in tops:
        for suffix in (".py", ".yaml", ".txt", ".html", ".svg", ".css"):
            source = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / package).rglob(f"*{suffix}")}
            assert source <= names
    assert any(name.endswith("/LICENSE") for name in names)
