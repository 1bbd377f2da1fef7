"""The tests that need torchvision and timm, run with PyPI's wheels of them, which no installation for CPUs has.

The wheel's C++ library wants CUDA, and without it `import torchvision` misses two operators that none of its networks
here calls. A `sitecustomize` declares them, so that the networks, which are plain PyTorch, run beside torch of CPUs.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

PACKAGES = ("torchvision==0.28.0", "timm==1.0.31")
TESTS = ("tests/lightning_modules/networks/test_torchvision_networks.py", "tests/datamodules/optical_flow/test_raft.py")
OPERATORS = """
import torch

library = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_networks_and_flow_of_torchvision_are_tested_with_its_wheel(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), *PACKAGES]
    installed = subprocess.run(install, capture_output=True, text=True)
    if installed.returncode and not os.environ.get("CI"):
        pytest.skip(f"no package index: {installed.stderr[-300:]}")
    assert installed.returncode == 0, installed.stderr
    (site / "sitecustomize.py").write_text(OPERATORS)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(REPOSITORY)]), "OMP_NUM_THREADS": "1"}
    words = ["-q", "-rs", "-p", "no:cacheprovider", "-m", "not slow", "--basetemp", str(tmp_path / "inner"), *TESTS]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *words], cwd=REPOSITORY, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-4000:]
    assert "skipped" not in run.stdout.splitlines()[-1], run.stdout[-2000:]
