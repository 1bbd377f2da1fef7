"""Tables and histograms of levels are on a GPU what they are on the CPU, bit for bit."""

import numpy as np
import pytest
import torch

from datamodules.transforms import pixel_operations as pixels
from tests.gpu.devices import DEVICES


def clips_with_bars() -> torch.Tensor:
    """Two clips, half of whose pixels are black: where histograms have most to add to one count."""
    clips = np.random.default_rng(0).integers(0, 256, (2, 8, 112, 112, 3), dtype=np.uint8)
    clips[:, :, :28] = clips[:, :, -28:] = 0
    return torch.from_numpy(clips)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("num_histograms", [1, 512])
def test_counts_are_those_of_the_cpu(device, num_histograms):
    clips = clips_with_bars()
    expected = torch.stack(
        [torch.stack([torch.bincount(clip[..., k].flatten(), minlength=256) for k in range(3)]) for clip in clips]
    )
    assert torch.equal(pixels.level_counts(clips.to(device), num_histograms).cpu(), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_equalized_clips_are_those_of_the_cpu(device):
    clips, nothing = clips_with_bars(), torch.zeros(2, dtype=torch.float64)
    expected = pixels.look_up(clips, pixels.equalize_table(clips, nothing))
    assert not torch.equal(expected, clips)
    moved = clips.to(device)
    found = pixels.look_up(moved, pixels.equalize_table(moved, nothing.to(device)))
    assert torch.equal(found.cpu(), expected)
