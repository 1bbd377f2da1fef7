"""C3D against its paper."""

import pytest
import torch
import torch.nn.functional as F

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


def written_out(model, x, batch_norm):
    """Every endpoint by the paper's figure 3, of the weights alone: a rectifier after all that is learnt but logits."""
    found = {}
    for name in [
        "conv1a",
        "pool1",
        "conv2a",
        "pool2",
        "conv3a",
        "conv3b",
        "pool3",
        "conv4a",
        "conv4b",
        "pool4",
        "conv5a",
        "conv5b",
        "pool5",
    ]:
        if name.startswith("pool"):
            kernel = (1, 2, 2) if name == "pool1" else 2
            x = F.max_pool3d(x, kernel, padding=(0, 1, 1) if name == "pool5" else 0)
        else:
            layers = getattr(model.stages, name)
            assert (layers[0].bias is None) == batch_norm
            x = F.conv3d(x, layers[0].weight, layers[0].bias, padding=1)
            if batch_norm:
                norm = layers[1]
                x = F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias)
            x = x.relu()
        found[name] = x
    x = x.flatten(1)
    for name, place in (("fc6", 1), ("fc7", 0)):
        linear = getattr(model.stages, name)[place]
        found[name] = x = (x @ linear.weight.T + linear.bias).relu()
    logits = model.stages.logits
    return {**found, "logits": x @ logits.weight.T + logits.bias}


@pytest.mark.parametrize("batch_norm", [False, True])
def test_every_endpoint_is_the_paper_s_written_out(batch_norm):
    torch.manual_seed(0)
    model = C3D(num_classes=3, width=2, crop_size=32, batch_norm=batch_norm).double().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):  # which begin as zeros
                parameter.uniform_(-0.5, 0.5)
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 2)
        clips = torch.randn(2, 3, 16, 32, 32, dtype=torch.float64)
        expected = written_out(model, clips, batch_norm)
        found = model.endpoints(clips, model.endpoints_available)
    assert tuple(found) == tuple(expected)
    for name, feature in expected.items():
        assert name == "logits" or feature.min() == 0, name  # the rectifiers have something to do
        torch.testing.assert_close(found[name], feature, rtol=1e-9, atol=1e-12, msg=name)
    torch.testing.assert_close(model.clip_logits(clips), expected["logits"], rtol=1e-9, atol=1e-12)


def test_dropout_is_after_both_hidden_layers():
    model = C3D(num_classes=3, width=2, crop_size=32, dropout=1.0).train()
    with torch.no_grad():
        model.stages.logits.bias.copy_(torch.tensor([1.0, 2.0, 3.0]))
        found = model.endpoints(torch.randn(2, 3, 16, 32, 32), ["fc6", "fc7", "logits"])
    assert not found["fc6"].any()
    assert not found["fc7"].any()
    assert found["logits"].tolist() == [[1.0, 2.0, 3.0]] * 2


def test_initial_weights_keep_the_variance_and_the_logits_are_small():
    """He et al. 2015: standard deviation sqrt(2 / inputs), biases 0; without it training from scratch stands still."""
    torch.manual_seed(0)
    model = C3D(num_classes=101, width=8, crop_size=32)
    for name, module in model.stages.named_modules():
        if isinstance(module, (torch.nn.Conv3d, torch.nn.Linear)):
            expected = 0.01 if name == "logits" else (2 / module.weight[0].numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.15), name
            assert not module.bias.any()


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
