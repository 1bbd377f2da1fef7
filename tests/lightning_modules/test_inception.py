"""Inception-v1 in 2D and 3D: sizes, paddings, parameter counts, and the published networks as oracles."""

import pytest
import torch
import torch.nn.functional as F

from lightning_modules import I3D, InceptionV1
from lightning_modules.inception_layers import MaxPooling, same_padding


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        (224, 7, 2, (2, 3)),
        (16, 7, 2, (2, 3)),
        (112, 3, 2, (0, 1)),
        (7, 3, 2, (1, 1)),
        (5, 3, 1, (1, 1)),
        (7, 2, 2, (0, 1)),
        (8, 1, 1, (0, 0)),
    ],
)
def test_same_padding_by_hand(size, kernel, stride, padding):
    assert same_padding(size, kernel, stride) == padding


@pytest.mark.parametrize("size", [4, 5, 7, 8, 13])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (3, 1)])
def test_pooling_is_that_of_an_explicitly_padded_input(size, kernel, stride):
    x = torch.randn(2, 3, size, size + 1, size + 2)
    pads = [same_padding(n, kernel, stride) for n in reversed(x.shape[2:])]
    padded = F.pad(x, [amount for pair in pads for amount in pair], value=-torch.inf)
    pooled = MaxPooling((kernel,) * 3, (stride,) * 3)(x)
    assert torch.equal(pooled, F.max_pool3d(padded, kernel, stride))
    assert pooled.shape[2:] == tuple(-(-n // stride) for n in x.shape[2:])


def trained(model):
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def test_parameter_counts_are_the_papers():
    # Carreira and Zisserman 2017, table 1: 25 M for the two streams, RGB and flow, with 400 classes.
    assert round((trained(I3D(num_classes=400)) + trained(I3D(num_classes=400, in_channels=2))) / 1e6) == 25
    # torchvision's page of GoogLeNet: 6624904 with 1000 classes.
    assert trained(InceptionV1(num_classes=1000, bn_scale=True, padding="symmetric")) == 6624904


def test_endpoints_are_named_as_published(i3d_reference):
    _, told = i3d_reference
    assert list(told["endpoints_shape_mean_std"]) == list(I3D(num_classes=2).endpoints_available)


@pytest.mark.parametrize(("frames", "size"), [(1, 32), (8, 48), (9, 33), (17, 64)])
def test_clips_of_any_length_and_size(frames, size):
    for model in (I3D(num_classes=5).eval(), InceptionV1(num_classes=5).eval()):
        x = torch.randn(2, 3, frames, size, size + 8)
        assert model.clip_logits(x).shape == (2, 5)
        feature = model.endpoints(x, ["Mixed_5c"])["Mixed_5c"]
        assert feature.shape[:2] == (2, 1024)
        assert feature.shape[2] == (frames if isinstance(model, InceptionV1) else -(-frames // 8))


def test_logits_of_a_frame_network_are_the_mean_of_its_frames():
    model = InceptionV1(num_classes=5).eval()
    x = torch.randn(2, 3, 3, 32, 32)
    alone = torch.stack([model.clip_logits(x[:, :, frame : frame + 1]) for frame in range(3)])
    torch.testing.assert_close(model.clip_logits(x), alone.mean(0), rtol=1e-4, atol=1e-5)


def test_a_batch_norm_without_scale_keeps_its_weight_of_one():
    model = I3D(num_classes=2)
    scales = [parameter for name, parameter in model.named_parameters() if name.endswith("bn.weight")]
    assert len(scales) == 57
    assert all(not scale.requires_grad and bool((scale == 1).all()) for scale in scales)


def test_the_published_i3d_gives_the_published_numbers(i3d_weights, i3d_reference):
    """Within 1e-3 in the logits and 1e-4, relative, in every endpoint's mean and standard deviation."""
    clip, told = i3d_reference
    model = I3D.from_pretrained("i3d-kinetics400-rgb")
    with torch.inference_mode():
        found = model.endpoints(clip, model.endpoints_available)
    assert (found["Logits"] - torch.tensor(told["logits"])).abs().max() < 1e-3
    for name, (shape, mean, std) in told["endpoints_shape_mean_std"].items():
        feature = found[name]
        assert tuple(feature.shape) == tuple(shape[index] for index in ((0, 4, 1, 2, 3) if len(shape) == 5 else (0, 1)))
        assert float(feature.mean()) == pytest.approx(mean, rel=1e-4)
        assert float(feature.std(correction=0)) == pytest.approx(std, rel=1e-4)


def test_googlenet_is_torchvisions_where_that_imports(tmp_path):
    try:
        from torchvision.models import googlenet
    except Exception as error:
        pytest.skip(
            f"torchvision does not import here ({type(error).__name__}); its keys are tested in test_pretrained.py"
        )
    torch.manual_seed(0)
    theirs = googlenet(weights=None, aux_logits=True, init_weights=True).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 2)
    torch.save(theirs.state_dict(), tmp_path / "googlenet.pth")
    ours = InceptionV1.from_pretrained(tmp_path / "googlenet.pth")
    for size in (224, 63):
        x = torch.randn(2, 3, size, size)
        with torch.inference_mode():
            torch.testing.assert_close(ours.clip_logits(x[:, :, None]), theirs(x), rtol=1e-4, atol=1e-5)


def test_too_few_frames_are_one_sentence():
    with pytest.raises(ValueError, match=r"nothing is left of .* by a pooling over"):
        I3D(num_classes=2, padding="symmetric").clip_logits(torch.zeros(1, 3, 1, 64, 64))
