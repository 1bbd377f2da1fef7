"""Inflation: on a video that repeats one frame the 3D network answers as the 2D network does on the frame."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lightning_modules import I3D, InceptionV1
from lightning_modules.weights.inflation import (
    InflatedConv3d,
    deflate_filters,
    inflate_filters,
    inflate_network,
    inflate_weights,
)

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


class Small(nn.Module):
    """A 2D network with every kind of layer that inflation knows, and a branch."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.left = nn.Conv2d(8, 4, 1, bias=False)
        self.right = nn.Conv2d(8, 4, (1, 5), padding="same", groups=2)
        self.mean = nn.AvgPool2d(2)
        self.last = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.pool(self.stem(x))
        x = self.mean(torch.cat([self.left(x), self.right(x)], 1))
        return self.head(torch.flatten(self.last(x), 1))


def unlike_ones(network):
    """Batch norms as after training, so that forgetting one of their parts shows."""
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            if module.affine:
                nn.init.normal_(module.bias, std=0.1)
            if module.affine and module.weight.requires_grad:
                nn.init.uniform_(module.weight, 0.5, 2)
    return network.eval()


def repeated(frame, frames):
    return frame[:, :, None].expand(-1, -1, frames, -1, -1)


def test_filters_are_repeated_and_divided():
    weight = torch.tensor([[[[3.0]]]])
    assert inflate_filters(weight, 3).tolist() == [[[[[1.0]], [[1.0]], [[1.0]]]]]
    assert inflate_network(nn.Conv2d(1, 1, (3, 5))).kernel_size == (3, 3, 5)  # as deep as the smaller side


def test_filters_of_clips_are_summed_over_time():
    weight = torch.arange(12.0).reshape(1, 2, 3, 1, 2)
    assert deflate_filters(weight).tolist() == [[[[0 + 2 + 4, 1 + 3 + 5]], [[6 + 8 + 10, 7 + 9 + 11]]]]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1),
        nn.Conv2d(4, 6, 5, stride=2, padding=2, bias=False),
        nn.Conv2d(4, 6, 3, dilation=2, padding="valid", groups=2),
        nn.Conv2d(4, 6, 3, dilation=2, padding="same"),
        nn.BatchNorm2d(4, eps=0.1),
        nn.BatchNorm2d(4, affine=False),
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(3, 1, 0, dilation=2),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        nn.AvgPool2d(4, ceil_mode=True),
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_equals_its_2d_self_away_from_the_borders_of_time(layer, dtype):
    layer = unlike_ones(nn.Sequential(copy.deepcopy(layer)).to(dtype))  # its values are no rounded ones of float32
    inflated = inflate_network(layer)
    frame = torch.randn(2, 4, 11, 12, dtype=dtype)
    flat, deep = layer(frame), inflated(repeated(frame, 9))
    assert deep.shape[2] == 9
    assert (deep[:, :, 4] - flat).abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_a_whole_network_equals_its_2d_self_with_repeated_borders(dtype):
    network = unlike_ones(Small()).to(dtype)
    frame = torch.randn(2, 3, 32, 40, dtype=dtype)
    with torch.inference_mode():
        deep = inflate_network(network, time_padding="replicate")(repeated(frame, 7))
        assert (deep - network(frame)).abs().max() < TOLERANCE[dtype]
        black = inflate_network(network)(repeated(frame, 7))
    assert (black - network(frame)).abs().max() > 1e-3  # black borders do differ


def test_borders_of_time_are_repeated_in_their_order():
    """On a video that moves: the first frame before it and the last one after it."""
    torch.manual_seed(0)
    deep = inflate_network(nn.Conv2d(3, 4, 5, padding=2), time_padding="replicate")
    clip = torch.randn(1, 3, 4, 8, 9)
    borders = F.pad(clip, (0, 0, 0, 0, 2, 2), mode="replicate")
    torch.testing.assert_close(deep(clip), F.conv3d(borders, deep.weight, deep.bias, padding=(0, 2, 2)))


@pytest.mark.parametrize("layer", [nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.AvgPool2d(2)])
def test_windows_and_strides_in_time_are_those_asked_for(layer):
    """A window of 3 frames with stride 2 over 7; only the average is not padded."""
    deep = inflate_network(layer, pooling_frames=lambda *_: 3, time_stride=lambda *_: 2)
    clip = torch.rand(1, 3, 7, 8, 8)
    found = deep(clip)
    frames = clip.flatten(0, 1)
    if isinstance(layer, nn.Conv2d):
        expected = F.conv3d(clip, deep.weight, deep.bias, stride=(2, 1, 1), padding=(1, 0, 0))
        assert deep.weight.shape[2] == 3
    elif isinstance(layer, nn.MaxPool2d):
        each = layer(frames).unflatten(0, (1, 3))
        expected = torch.stack([each[:, :, max(0, t - 1) : t + 2].amax(2) for t in (0, 2, 4, 6)], 2)
    else:
        each = layer(frames).unflatten(0, (1, 3))
        expected = torch.stack([each[:, :, t : t + 3].mean(2) for t in (0, 2, 4)], 2)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("layer", [nn.AdaptiveAvgPool2d((3, 2)), nn.AdaptiveMaxPool2d(2)])
def test_an_adaptive_pooling_leaves_one_place_in_time(layer):
    frame = torch.randn(2, 3, 7, 9)
    torch.testing.assert_close(inflate_network(layer)(repeated(frame, 4)), layer(frame)[:, :, None])


def test_what_a_layer_does_in_training_is_kept():
    flat = nn.Sequential(nn.BatchNorm2d(2, momentum=0.3), nn.Dropout2d(0.7), nn.BatchNorm2d(2)).train()
    flat[0].weight.requires_grad_(False)
    flat[2].eval()
    norm, dropout, frozen = inflate_network(flat)
    assert (type(norm), norm.momentum, norm.training, frozen.training) == (nn.BatchNorm3d, 0.3, True, False)
    assert (norm.weight.requires_grad, norm.bias.requires_grad) == (False, True)
    assert (type(dropout), dropout.p) == (nn.Dropout3d, 0.7)


def test_an_inflated_network_trains_and_keeps_its_names():
    network = Small()
    inflated = inflate_network(network, filter_frames=lambda name, layer: 1 if name == "stem.0" else 3)
    assert list(inflated.state_dict()) == list(network.state_dict())
    assert inflated.stem[0].kernel_size == (1, 3, 3)
    assert isinstance(inflated.left, InflatedConv3d)
    inflated(torch.randn(2, 3, 5, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in inflated.parameters())


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.ConvTranspose2d(3, 3, 2), "layer '0': a ConvTranspose2d cannot be inflated"),
        (nn.ReflectionPad2d(1), "layer '0': a ReflectionPad2d cannot be inflated"),
        (nn.Conv2d(3, 3, 2), "layer '0': filters of 2 frames have no middle"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "layer '0': padding_mode='reflect' cannot be inflated"),
    ],
)
def test_what_cannot_be_inflated_is_named(layer, message):
    with pytest.raises(ValueError, match=message):
        inflate_network(nn.Sequential(layer))


def in_3d(key):
    return key.replace("Conv2d_", "Conv3d_")


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_i3d_equals_the_inception_it_came_from(dtype):
    flat = unlike_ones(InceptionV1(num_classes=7)).to(dtype)
    deep = I3D(num_classes=7, time_padding="replicate").to(dtype).eval()
    deep.stages.load_state_dict(inflate_weights(flat.stages.state_dict(), deep.stages, in_3d))
    frame = torch.randn(1, 3, 64, 64, dtype=dtype)
    with torch.inference_mode():
        of_frame = flat.endpoints(frame[:, :, None], flat.endpoints_available)
        from_clips = deep.endpoints(repeated(frame, 9), deep.endpoints_available)
    for one, other in zip(of_frame.values(), from_clips.values(), strict=True):
        scale = 1 + float(one.abs().max())
        assert float((one - other).abs().max()) < TOLERANCE[dtype] * scale


def test_every_2d_key_is_used_once():
    flat, deep = InceptionV1(num_classes=3), I3D(num_classes=3)
    state = flat.stages.state_dict()
    inflated = inflate_weights(state, deep.stages, in_3d)
    assert set(inflated) == set(deep.stages.state_dict()) == {in_3d(key) for key in state}
    assert len(inflated) == len(state)


def test_keys_that_do_not_match_are_all_named():
    state = InceptionV1(num_classes=3).stages.state_dict()
    state["extra"] = state.pop("Mixed_5c.b0.conv.weight")
    state["Logits.conv.weight"] = torch.zeros(4, 1024, 1, 1)
    named = "Logits.conv.weight, extra, Mixed_5c.b0.conv.weight"
    with pytest.raises(ValueError, match=f"cannot be inflated into Sequential: {named} do not match"):
        inflate_weights(state, I3D(num_classes=3).stages, in_3d)


@pytest.mark.parametrize(
    "layer",
    [
        torch.nn.AvgPool2d(2, divisor_override=1),
        torch.nn.MaxPool2d(2, return_indices=True),
        torch.nn.InstanceNorm2d(3),
        torch.nn.PixelShuffle(2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_layer_that_knows_two_dimensions_only_is_refused(layer):
    with pytest.raises(ValueError, match=f"layer '0': a {type(layer).__name__}"):
        inflate_network(torch.nn.Sequential(layer))
