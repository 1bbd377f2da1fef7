"""Folded batch norms: the same features of every layer, and where folding would change one, none."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.parametrizations import weight_norm

from lightning_modules import C3D, CNNLSTM, I3D, InceptionV1, VideoClassifier
from lightning_modules.layers.batch_norm_folding import fold_batch_norms
from lightning_modules.layers.execution_options import use_channels_last

NETWORKS = {
    "C3D": (lambda: C3D(width=8, crop_size=32, batch_norm=True, num_classes=5), 8),
    "C3D as published": (lambda: C3D(width=4, crop_size=32, num_classes=5), 0),
    "I3D": (lambda: I3D(num_classes=5), 57),
    "I3D for weights of GoogLeNet": (
        lambda: I3D(num_classes=5, padding="symmetric", bn_scale=True, time_padding="replicate"),
        57,
    ),
    "InceptionV1": (lambda: InceptionV1(num_classes=5), 57),
    "CNNLSTM": (lambda: CNNLSTM(num_classes=5), 4),
    "CNNLSTM with Inception": (lambda: CNNLSTM(encoder="inception_v1", num_classes=5), 57),
}


def with_statistics(network):
    """The network in evaluation mode, with batch norms that do something."""
    with torch.no_grad():
        for norm in norms_of(network):
            if norm.track_running_stats:
                norm.running_mean.normal_(std=0.3)
                norm.running_var.uniform_(0.3, 3)
            norm.bias.normal_(std=0.3)
            if norm.weight.requires_grad:
                norm.weight.uniform_(-2, 2)
    return network.eval()


def norms_of(network):
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


def differences(network, folded, x):
    """Of each endpoint: the norm of the difference, of its norm."""
    with torch.inference_mode():
        expected = network.endpoints(x, network.endpoints_available)
        found = folded.endpoints(x, network.endpoints_available)
    assert list(found) == list(expected)
    return {name: float((found[name] - of).norm() / of.norm()) for name, of in expected.items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_gives_the_same(name):
    make, count = NETWORKS[name]
    torch.manual_seed(0)
    network = with_statistics(make())
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == len(norms_of(network)) == count
    assert norms_of(folded) == []
    x = torch.randn(1, 3, 16, 32, 32)
    assert max(differences(network, folded, x).values()) < 1e-5
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


def test_in_double_precision_the_same_to_its_last_digits():
    torch.manual_seed(0)
    network = with_statistics(I3D(num_classes=5, bn_scale=True)).double()
    folded = copy.deepcopy(network)
    fold_batch_norms(folded)
    assert max(differences(network, folded, torch.randn(1, 3, 16, 32, 32).double()).values()) < 1e-13


def test_in_bf16_rounding_grows_little():
    torch.manual_seed(0)
    network = with_statistics(I3D(num_classes=5))
    folded = copy.deepcopy(network)
    fold_batch_norms(folded)
    x = torch.randn(1, 3, 16, 32, 32)
    with torch.inference_mode():
        expected = network.clip_logits(x)
        with torch.autocast("cpu", torch.bfloat16):
            errors = [float((one.clip_logits(x).float() - expected).norm()) for one in (network, folded)]
    assert errors[1] < 2 * errors[0]


def test_channels_stay_last_in_memory():
    network = with_statistics(C3D(width=8, crop_size=32, batch_norm=True, num_classes=5))
    use_channels_last(network)
    fold_batch_norms(network)
    assert network.stages.conv3b[0].weight.is_contiguous(memory_format=torch.channels_last_3d)


class Other(VideoClassifier):
    """Stages as somebody else may write them."""

    def __init__(self, *stages, **kwargs):
        super().__init__(num_classes=2, **kwargs)
        self.stages = nn.Sequential(*stages, nn.AdaptiveAvgPool3d(1), nn.Flatten())


def convolution():
    return nn.Conv3d(3, 3, 3, padding=1)


def hooked(module):
    module.register_forward_hook(lambda module, inputs, output: output + 1)
    return module


def used_twice():
    shared, rectifier = convolution(), nn.ReLU()
    return [nn.Sequential(shared, nn.BatchNorm3d(3), rectifier), nn.Sequential(shared, rectifier)]


def something_between():
    rectifier = nn.ReLU()
    return [nn.Sequential(rectifier, convolution(), rectifier, nn.BatchNorm3d(3))]


LEFT_ALONE = {
    "the convolution is an endpoint": lambda: [convolution(), nn.BatchNorm3d(3)],
    "it has a second use": used_twice,
    "a rectifier lies between": something_between,
    "the convolution has a hook": lambda: [nn.Sequential(hooked(convolution()), nn.BatchNorm3d(3))],
    "the norm has a hook": lambda: [nn.Sequential(convolution(), hooked(nn.BatchNorm3d(3)))],
    "the filters are made of others": lambda: [nn.Sequential(weight_norm(convolution()), nn.BatchNorm3d(3))],
    "it goes by its batch": lambda: [nn.Sequential(convolution(), nn.BatchNorm3d(3, track_running_stats=False))],
    "the norm comes first": lambda: [nn.Sequential(nn.BatchNorm3d(3), convolution())],
}


@pytest.mark.parametrize("why", LEFT_ALONE)
def test_what_folding_would_change_stays(why):
    torch.manual_seed(0)
    network = with_statistics(Other(*LEFT_ALONE[why]()))
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == 0
    assert max(differences(network, folded, torch.randn(2, 3, 4, 8, 8)).values()) == 0


def test_a_convolution_with_a_bias_is_folded_within_stages_of_others():
    torch.manual_seed(0)
    network = with_statistics(Other(nn.Sequential(convolution(), nn.BatchNorm3d(3), nn.ReLU(inplace=True))))
    folded = copy.deepcopy(network)
    assert fold_batch_norms(folded) == 1
    assert max(differences(network, folded, torch.randn(2, 3, 4, 8, 8)).values()) < 1e-5


def test_a_network_that_trains_is_refused():
    with pytest.raises(ValueError, match=r"C3D is in training mode: call eval\(\)"):
        fold_batch_norms(C3D(width=2, crop_size=32, batch_norm=True, num_classes=2).train())
