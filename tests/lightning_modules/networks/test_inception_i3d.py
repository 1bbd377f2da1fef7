"""Inception-v1 in 2D and 3D: sizes, paddings, parameter counts, and the published networks as oracles."""

import pytest
import torch
import torch.nn.functional as F

from lightning_modules import I3D, InceptionV1
from lightning_modules.layers.inception_layers import Convolution, MaxPooling, Mixed, same_padding
from lightning_modules.networks.inception_i3d import Logits


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


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize(("kernel", "stride"), [((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2)), ((3, 3, 3), (1, 1, 1))])
def test_a_program_for_any_size_pools_the_same(padding, kernel, stride):
    """Of numbers below 0 too, among which a padded 0 would be the maximum."""
    layer = MaxPooling(kernel, stride, padding)
    for size in (5, 6, 7):
        x = -1 - torch.rand(1, 2, size, 7, 8)
        assert torch.equal(layer._pool_any_size(x), layer(x))


def test_statistics_move_by_a_tenth_a_step_and_epsilon_is_the_published_one():
    """Values 1 and 3: mean 2, variance 1, unbiased 2; they begin at 0 and 1."""
    layer = Convolution(1, 1, (1, 1), (1, 1)).train()
    torch.nn.init.ones_(layer.conv.weight)
    found = layer(torch.tensor([[[[1.0, 3.0]]]]))
    torch.testing.assert_close(found, torch.tensor([[[[0.0, 1 / 1.001**0.5]]]]), rtol=0, atol=1e-6)
    assert layer.bn.running_mean.item() == pytest.approx(0.1 * 2)
    assert layer.bn.running_var.item() == pytest.approx(0.9 * 1 + 0.1 * 2)


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


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_the_classifier_of_i3d_averages_neighbors_and_then_all_of_time(frames):
    """Every pair of neighboring steps is classified, and their logits are averaged: not the last, nor the first."""
    torch.manual_seed(0)
    head = Logits(4, 3, dropout=0.5).double().eval()
    torch.nn.init.normal_(head.conv.weight)
    torch.nn.init.normal_(head.conv.bias)
    x = torch.randn(2, 1024, frames, 2, 3, dtype=torch.float64)
    weight = head.conv.weight.flatten(1)
    steps = x.mean((3, 4))
    pairs = [steps[:, :, t : t + 2].mean(2) for t in range(max(1, frames - 1))]
    each = torch.stack([pair @ weight.T + head.conv.bias for pair in pairs])
    torch.testing.assert_close(head(x), each.mean(0), rtol=0, atol=1e-11)
    if frames > 2:
        assert (each[-1] - each.mean(0)).abs().max() > 0.1


def test_the_classifier_of_frames_averages_all_of_space():
    head = Logits(4, 2, dropout=0.5).double().eval()
    x = torch.randn(2, 1024, 3, 5, dtype=torch.float64)
    expected = x.mean((2, 3)) @ head.conv.weight.flatten(1).T + head.conv.bias
    torch.testing.assert_close(head(x), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("network", [I3D, InceptionV1])
def test_dropout_reaches_the_classifier(network):
    assert network(num_classes=2, dropout=0.25).stages.Logits.dropout.p == 0.25
    assert network(num_classes=2).stages.Logits.dropout.p == (0.5 if network is I3D else 0.4)  # as in the papers


def test_dropout_is_before_the_classifier():
    head = Logits(4, 3, dropout=1.0).train()
    torch.nn.init.normal_(head.conv.bias)
    assert torch.equal(head(torch.randn(1, 1024, 2, 3, 3))[0], head.conv.bias)


def normalized(x, norm):
    mean, variance, bias = (values.view(-1, 1, 1, 1) for values in (norm.running_mean, norm.running_var, norm.bias))
    return (x - mean) / (variance + 1e-3).sqrt() + bias


def convolved(x, layer):
    """A layer of I3D written out: padding so that the size is kept, filters, batch norm, rectifier."""
    return normalized(F.conv3d(x, layer.conv.weight, padding=layer.conv.kernel_size[0] // 2), layer.bn).relu()


def as_trained(module):
    for norm in module.modules():
        if isinstance(norm, torch.nn.BatchNorm3d):
            torch.nn.init.normal_(norm.running_mean)
            torch.nn.init.uniform_(norm.running_var, 0.5, 2)
            torch.nn.init.normal_(norm.bias)
    return module.double().eval()


def test_an_inception_module_is_its_four_branches_in_order():
    """1x1; 1x1 and 3x3; 1x1 and 3x3 again; 3x3 pooling and 1x1: with channels in this order (Szegedy, figure 2b)."""
    torch.manual_seed(0)
    mixed = as_trained(Mixed(5, (2, 3, 4, 6, 7, 8), dimensions=3))
    x = torch.randn(1, 5, 4, 6, 7, dtype=torch.float64)
    branches = [
        convolved(x, mixed.b0),
        convolved(convolved(x, mixed.b1a), mixed.b1b),
        convolved(convolved(x, mixed.b2a), mixed.b2b),
        convolved(F.max_pool3d(x, 3, stride=1, padding=1), mixed.b3b),
    ]
    assert [branch.shape[1] for branch in branches] == [2, 4, 7, 8]
    torch.testing.assert_close(mixed(x), torch.cat(branches, 1), rtol=0, atol=1e-11)


@pytest.mark.parametrize("time_padding", ["zeros", "replicate"])
def test_a_layer_with_a_stride_pads_as_tensorflow(time_padding):
    """7x7x7 with stride 2, as I3D's first: two places before and three after an even axis."""
    torch.manual_seed(0)
    layer = as_trained(Convolution(2, 3, (7, 7, 7), (2, 2, 2), time_padding=time_padding))
    x = torch.randn(1, 2, 8, 10, 8, dtype=torch.float64)
    padded = F.pad(x, (2, 3, 2, 3, 0, 0))
    first, last = padded[:, :, :1], padded[:, :, -1:]
    if time_padding == "zeros":
        first, last = torch.zeros_like(first), torch.zeros_like(last)
    filtered = F.conv3d(torch.cat([first, first, padded, last, last, last], dim=2), layer.conv.weight, stride=2)
    torch.testing.assert_close(layer(x), normalized(filtered, layer.bn).relu(), rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("name", "kernel", "stride"),
    [
        ("MaxPool3d_2a_3x3", (1, 3, 3), (1, 2, 2)),
        ("MaxPool3d_3a_3x3", (1, 3, 3), (1, 2, 2)),
        ("MaxPool3d_4a_3x3", (3, 3, 3), (2, 2, 2)),
        ("MaxPool3d_5a_2x2", (2, 2, 2), (2, 2, 2)),
    ],
)
def test_poolings_are_those_of_figure_3(name, kernel, stride):
    x = torch.randn(1, 3, 6, 8, 10)
    sizes = zip(x.shape[2:], kernel, stride, strict=True)
    pads = [amount for size in reversed(list(sizes)) for amount in same_padding(*size)]
    expected = F.max_pool3d(F.pad(x, pads, value=-torch.inf), kernel, stride)
    assert torch.equal(getattr(I3D(num_classes=2).stages, name)(x), expected)


def test_only_space_is_pooled_twice_before_time_is():
    """Of 16 frames the first convolution leaves 8, the poolings 2a and 3a all of them, 4a and 5a half each."""
    model = I3D(num_classes=2).eval()
    with torch.inference_mode():
        found = model.endpoints(torch.zeros(1, 3, 16, 64, 64), model.endpoints_available)
    places = {name: tuple(feature.shape[2:]) for name, feature in found.items()}
    assert places["Conv3d_1a_7x7"] == (8, 32, 32)
    assert places["MaxPool3d_2a_3x3"] == places["Conv3d_2c_3x3"] == (8, 16, 16)
    assert places["MaxPool3d_3a_3x3"] == places["Mixed_3c"] == (8, 8, 8)
    assert places["MaxPool3d_4a_3x3"] == places["Mixed_4f"] == (4, 4, 4)
    assert places["MaxPool3d_5a_2x2"] == places["Mixed_5c"] == (2, 2, 2)


def test_a_batch_norm_without_scale_keeps_its_weight_of_one():
    model = I3D(num_classes=2)
    scales = [parameter for name, parameter in model.named_parameters() if name.endswith("bn.weight")]
    assert len(scales) == 57
    assert all(not scale.requires_grad and bool((scale == 1).all()) for scale in scales)


def test_initial_filters_keep_the_variance_and_the_logits_are_small():
    """He et al. 2015: standard deviation sqrt(2 / inputs), inputs counted over time and space."""
    torch.manual_seed(0)
    stages = I3D(num_classes=101).stages
    for name, module in stages.named_modules():
        if isinstance(module, torch.nn.Conv3d):
            expected = 0.01 if name == "Logits.conv" else (2 / module.weight[0].numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx(expected, rel=0.1), name
    assert not stages.Logits.conv.bias.any()


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


def test_statistics_move_by_a_tenth_a_step():
    norm = Convolution(2, 3, (1, 1, 1), (1, 1, 1)).bn
    assert (norm.momentum, norm.eps) == (0.1, 1e-3)


def test_logits_of_images_are_averaged_over_the_frames():
    torch.manual_seed(0)
    model = InceptionV1(num_classes=3).eval()
    x = torch.randn(1, 3, 2, 32, 32)
    with torch.inference_mode():
        of_frames = torch.cat([model.clip_logits(x[:, :, frame : frame + 1]) for frame in (0, 1)])
        assert not torch.allclose(*of_frames)
        torch.testing.assert_close(model.endpoints(x, ["Logits"])["Logits"][0], of_frames.mean(0))
