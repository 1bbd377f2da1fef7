"""What inference takes from the device: workers of the loaders."""

import pytest
import torch

from datamodules.loading.loader_options import DEFAULT_WORKERS, LoaderOptions
from pipeline.inference.trained_checkpoint import loading_settings
from pipeline.processes.compute_device import loader_workers


def test_a_gpu_has_the_workers_of_its_share_of_the_processors(monkeypatch):
    gpu = torch.device("cuda")
    monkeypatch.setattr("pipeline.processes.compute_device.num_processors", lambda: 96)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert [loader_workers(gpu, devices) for devices in (1, 8, 64)] == [95, 11, 2]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")  # of a launcher, which starts ranks with one device each
    assert loader_workers(gpu, 1) == 23


@pytest.mark.parametrize(("processors", "devices", "workers"), [(1, 1, 1), (2, 1, 1), (3, 1, 2), (64, 1, 2), (8, 4, 1)])
def test_on_a_cpu_decoding_takes_what_the_network_leaves(monkeypatch, processors, devices, workers):
    monkeypatch.setattr("pipeline.processes.compute_device.num_processors", lambda: processors)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert loader_workers(torch.device("cpu"), devices) == workers


def test_workers_that_are_given_are_taken():
    assert loading_settings(LoaderOptions(num_workers=0), "cpu", 1)["num_workers"] == 0
    assert loading_settings(LoaderOptions(), "cpu", 1)["num_workers"] == loader_workers(torch.device("cpu"), 1)
    assert LoaderOptions().worker_arguments()["num_workers"] == DEFAULT_WORKERS
