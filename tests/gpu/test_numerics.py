"""I3D of the published size: logits and gradients of a GPU beside those of the CPU in float32.

On the CPU the same code runs with clips of 8 x 32 x 32: bf16 there is what a GPU's is, and TF32 is float32.
"""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu_checks.cuda_settings import convolution_settings
from benchmarks.networks.model import draw_statistics
from datamodules.batch import ClipBatch
from lightning_modules import I3D
from lightning_modules.layers.batch_norm_folding import fold_batch_norms
from lightning_modules.layers.execution_options import use_channels_last
from lightning_modules.layers.space_to_depth import use_space_to_depth
from tests.gpu.devices import SLOW_ON_CPU

CLIPS = {"cuda": (64, 224), "cpu": (8, 32)}  # frames, and height and width
GRADIENT_CLIPS = {"cuda": (16, 112), "cpu": (8, 32)}
# Norm of the difference relative to the norm of the CPU's. Expected: 1e-6 in float32, where only the order of additions
# differs, 1e-3 in TF32, 1e-2 in bf16; gradients of the first layers differ most.
LOGITS = {"float32": 1e-5, "tf32": 5e-3, "bf16": 5e-2}
GRADIENTS = {"float32": 1e-3, "tf32": 5e-2, "bf16": 0.3}
LAYOUTS = {
    "as built": lambda network: None,
    "channels last": use_channels_last,
    "space to depth": use_space_to_depth,
    "norms folded": fold_batch_norms,
}


def new_network() -> I3D:
    torch.manual_seed(0)
    network = I3D(num_classes=400, dropout=0.0).eval()
    draw_statistics(network)
    return network


def random_clips(frames: int, size: int) -> ClipBatch:
    """Two clips of blurred blocks: of noise by pixels, a network says the same whatever the pixels are."""
    blocks = torch.rand(2, 3, 4, 7, 7, generator=torch.Generator().manual_seed(1))
    clips = F.interpolate(blocks, (frames, size, size), mode="trilinear").mul(255).to(torch.uint8)
    return ClipBatch.from_clips(clips.permute(0, 2, 3, 4, 1).contiguous())


@cache
def logits_on_cpu(frames: int, size: int) -> Tensor:
    with torch.inference_mode():
        return new_network()(random_clips(frames, size))


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.float().cpu() - expected).norm() / expected.norm())


def autocast(device: str, arithmetic: str) -> torch.autocast:
    return torch.autocast(device, dtype=torch.bfloat16, enabled=arithmetic == "bf16")


@pytest.mark.parametrize("device", SLOW_ON_CPU)
@pytest.mark.parametrize("arithmetic", LOGITS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_logits_are_those_of_the_cpu(device, arithmetic, layout):
    expected = logits_on_cpu(*CLIPS[device])
    network, batch = new_network(), random_clips(*CLIPS[device])
    LAYOUTS[layout](network)
    network.to(device)
    moved = batch._replace(clips=batch.clips.to(device))
    with convolution_settings(tf32=arithmetic == "tf32"), torch.inference_mode(), autocast(device, arithmetic):
        found = network(moved)
    assert found.device.type == device
    assert relative(found, expected) <= LOGITS[arithmetic]


def gradients(device: str, arithmetic: str, frames: int, size: int) -> Tensor:
    """Of all weights, one after the other; in evaluation mode, as statistics of two clips differ too easily."""
    network, batch = new_network().to(device), random_clips(frames, size)
    use_channels_last(network)
    with convolution_settings(tf32=arithmetic == "tf32"), autocast(device, arithmetic):
        logits = network(batch._replace(clips=batch.clips.to(device)))
        F.cross_entropy(logits.float(), torch.tensor([0, 1], device=device)).backward()
    return torch.cat([one.grad.float().cpu().flatten() for one in network.parameters() if one.grad is not None])


@cache
def gradients_on_cpu(frames: int, size: int) -> Tensor:
    return gradients("cpu", "float32", frames, size)


@pytest.mark.parametrize("device", SLOW_ON_CPU)
@pytest.mark.parametrize("arithmetic", GRADIENTS)
def test_gradients_are_those_of_the_cpu(device, arithmetic):
    expected = gradients_on_cpu(*GRADIENT_CLIPS[device])
    assert relative(gradients(device, arithmetic, *GRADIENT_CLIPS[device]), expected) <= GRADIENTS[arithmetic]
