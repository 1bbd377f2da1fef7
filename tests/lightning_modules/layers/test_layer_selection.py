"""Selection of layers by the beginning of their names."""

import torch
from torch import nn

from lightning_modules.layers.layer_selection import freeze_layers, longest_prefix


def test_the_longest_prefix_counts_and_numbers_are_whole():
    assert longest_prefix("Mixed_5c.b0", ["Mixed", "Mixed_5c", "Mixed_5"]) == "Mixed_5c"
    assert longest_prefix("layer_1.attention", ["layer_1", "layer_12"]) == "layer_1"
    assert longest_prefix("layer_12", ["layer_1"]) is None
    assert longest_prefix("layer_12", ["layer_"]) == "layer_"
    assert longest_prefix("logits", []) is None


def test_frozen_layers_have_no_gradients_and_keep_their_statistics():
    names = ("layer_1", "layer_12", "logits")
    stages = nn.Sequential()
    for name in names:
        stages.add_module(name, nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    network = nn.ModuleDict({"stages": stages}).train()
    freeze_layers(network, ["layer_1"])
    stages(torch.randn(4, 2)).sum().backward()
    for name in names:
        stage = stages.get_submodule(name)
        frozen = name == "layer_1"
        assert all((parameter.grad is None) == frozen for parameter in stage.parameters())
        assert stage[1].training is not frozen
        assert stage[1].num_batches_tracked.item() == (0 if frozen else 1)
