"""The devices on which the tests of this folder run: a GPU, and a CPU to prove that their code works."""

import pytest

GPU = pytest.param("cuda", marks=pytest.mark.gpu)
DEVICES = ["cpu", GPU]
SLOW_ON_CPU = [pytest.param("cpu", marks=pytest.mark.slow), GPU]
ACCELERATORS = {"cpu": "cpu", "cuda": "gpu"}  # as Lightning names them
