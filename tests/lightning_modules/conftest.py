"""Published weights and the reference."""

import json

import numpy as np
import pytest
import torch


@pytest.fixture(scope="session")
def i3d_reference(shared_dir):
    """The seeded clip, float32 (1, 3, 16, 224, 224), and what the published network makes of it."""
    told = json.loads((shared_dir / "data" / "kinetics_sample" / "i3d_reference.json").read_text())
    clip = np.random.RandomState(0).uniform(-1, 1, (1, 16, 224, 224, 3)).astype("float32")
    return torch.from_numpy(clip).permute(0, 4, 1, 2, 3), told
