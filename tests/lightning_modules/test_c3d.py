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
    with pytest.raises(ValueError, match="num_frames=16, crop_size=8: too small for five poolings"):
        C3D(num_classes=2, crop_size=8)  # nothing is left after pool4; the padding of pool5 would hide it


@pytest.mark.parametrize("shape", [(8, 32, 32), (32, 32, 32), (16, 64, 64), (16, 8, 8), (16, 32, 64)])
def test_other_clips_than_it_was_built_for_are_refused_in_a_sentence(shape):
    model = C3D(num_classes=2, width=1, crop_size=32).eval()
    clips = torch.zeros(1, 3, *shape)
    said = "clips of {} frames of {} x {} pixels: this C3D takes num_frames=16, crop_size=32, ".format(*shape)
    with pytest.raises(ValueError, match=said):
        model.clip_logits(clips)
    with pytest.raises(ValueError, match=said):
        model.endpoints(clips, ["fc6"])
    early = model.endpoints(clips, ["pool2"])["pool2"]  # which has no weights for places
    assert early.shape[2:] == (shape[0] // 2, shape[1] // 4, shape[2] // 4)


def test_what_the_poolings_leave_over_does_not_matter():
    model = C3D(num_classes=2, width=1, crop_size=32).eval()
    with torch.inference_mode():
        assert model.clip_logits(torch.zeros(1, 3, 17, 33, 34)).shape == (1, 2)
