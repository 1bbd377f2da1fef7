"""The host launches a training step without waiting for the device."""

import json
import warnings

import pytest
import torch

from benchmarks.gpu_checks.host_waits import HostWaits
from pipeline.__main__ import main
from tests.gpu.devices import ACCELERATORS, DEVICES, SLOW_ON_CPU


def wait(device: str) -> None:
    if device == "cuda":
        torch.ones(1, device=device).item()
    else:  # which never waits: what torch says on a GPU
        warnings.warn("called a synchronizing CUDA operation (Triggered internally)", stacklevel=2)


@pytest.mark.parametrize("device", DEVICES)
def test_waits_are_counted_by_their_line_and_other_warnings_are_shown(device):
    with warnings.catch_warnings(record=True) as shown, HostWaits() as waits:
        for _ in range(3):
            wait(device)
        warnings.warn("something else", stacklevel=1)
    assert list(waits.places.values()) == [3]
    assert next(iter(waits.places)).startswith("tests/gpu/test_host_waits.py:")
    assert [str(one.message) for one in shown] == ["something else"]


@pytest.mark.parametrize("device", SLOW_ON_CPU)
def test_a_training_step_makes_the_host_wait_nowhere(device, config, tmp_path):
    counter = {
        "class_path": "benchmarks.gpu_checks.fit_callbacks.HostWaitCount",
        "init_args": {"path": str(tmp_path / "waits.json"), "first": 12, "steps": 6},  # all in the second epoch
    }
    trainer = {"accelerator": ACCELERATORS[device], "precision": "bf16-mixed", "log_every_n_steps": 100}
    data = {"num_workers": 1, "pixels": "i420", "batch_size": 4}
    assert main(["fit", "--config", config(trainer=trainer, data=data, callbacks=[counter])]) == 0
    assert json.loads((tmp_path / "waits.json").read_text()) == {}
