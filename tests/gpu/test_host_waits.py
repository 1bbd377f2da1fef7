"""The host launches a training step without waiting for the device."""

import json
import warnings

import pytest
import torch

from benchmarks.gpu_checks.host_waits import HostWaits
from datamodules.batch import ClipBatch
from lightning_modules import C3D, Video2Vec, VideoDescriber, VideoNetwork
from pipeline.__main__ import main
from tests.gpu.devices import ACCELERATORS, DEVICES, SLOW_ON_CPU
from tests.lightning_modules.clip_batches import moving_bars

SMALL = {"channels": [4, 4], "hidden_size": 8}
NETWORKS = {
    "MixUp and CutMix": lambda: C3D(num_classes=8, width=2, crop_size=32, mixup_alpha=0.4, cutmix_alpha=1.0),
    "captions": lambda: VideoDescriber(training_captions=["a bar falls", "it rises slowly"], **SMALL),
    "autoencoder": lambda: Video2Vec(predicted_frames=2, **SMALL),
}


def network_and_batch(name: str, device: str) -> tuple[VideoNetwork, ClipBatch]:
    """A network that has taken a step, so that its kernels are chosen, and a batch with two clips a video."""
    network, batch = NETWORKS[name]().to(device), moving_bars(6, clips_per_video=2)
    captions, videos = [["a bar falls", "it rises slowly"]] * 6, batch.video_index.tolist()
    batch = batch._replace(captions=captions, videos_of_clips=videos).to(torch.device(device))
    network.training_step(batch, 0).backward()
    return network, batch


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


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_of_other_tasks_makes_the_host_wait_nowhere(device, name):
    network, batch = network_and_batch(name, device)
    with HostWaits() as waits:
        for number in range(1, 5):
            network.training_step(batch, number).backward()
    assert waits.places == {}


@pytest.mark.parametrize("device", DEVICES)
def test_captions_are_read_once_and_not_word_by_word(device):
    network, batch = network_and_batch("captions", device)
    with torch.inference_mode():
        states = network.eval().video_states(batch)
        network.generate(states)
        with HostWaits() as waits:
            network.generate(states)
    assert sum(waits.places.values()) == (1 if device == "cuda" else 0)
