"""C3D against its paper."""

import pytest
import torch

from lightning_modules import C3D


def test_parameters_of_the_paper():
    # By hand, width 64, 101 classes: eight convolutions 27,655,936 - with biases - fc6 8192 * 4096 + 4096,
    # fc7 4096 * 4096 + 4096, logits 4096 * 101 + 101.
    convolutions = [(3, 64), (64, 128), (128, 256), (256, 256), (256, 512), (512, 512), (512, 512), (512, 512)]
    expected = sum(27 * i * o + o for i, o in convolutions)
    expected += 8192 * 4096 + 4096 + 4096 * 4096 + 4096 + 4096 * 101 + 101
    model = C3D(num_classes=101)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected
    assert round(expected / 1e6, 1) == 78.4


def test_shapes_of_the_endpoints():
    model = C3D(num_classes=101, width=2).eval()
    found = model.endpoints(torch.zeros(1, 3, 16, 112, 112), model.endpoints_available)
    shapes = {name: tuple(feature.shape[1:]) for name, feature in found.items()}
    assert shapes["conv1a"] == (2, 16, 112, 112)
    assert shapes["pool1"] == (2, 16, 56, 56)
    assert shapes["pool2"] == (4, 8, 28, 28)
    assert shapes["pool3"] == (8, 4, 14, 14)
    assert shapes["pool4"] == (16, 2, 7, 7)
    assert shapes["pool5"] == (16, 1, 4, 4)
    assert shapes["fc6"] == shapes["fc7"] == (128,)


def test_too_small_a_clip_says_so():
    with pytest.raises(ValueError, match="num_frames=8, crop_size=112: too small for five poolings"):
        C3D(num_classes=2, num_frames=8)
