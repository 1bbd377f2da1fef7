"""Low-rank updates against their equation, and which layers have them."""

import pytest
import torch
from torch import nn

from lightning_modules.layers.low_rank_adaptation import add_low_rank_updates, with_low_rank_updates

peft = pytest.importorskip("peft")


def small():
    torch.manual_seed(0)
    layer = nn.ModuleDict({"query": nn.Linear(4, 3), "key": nn.Linear(4, 3)})
    return nn.ModuleDict({"layer_1": layer, "logits": nn.ModuleDict({"query": nn.Linear(3, 2)})})


@pytest.mark.parametrize("alpha", [2, 6.0])
def test_an_update_is_b_a_times_alpha_by_rank(alpha):
    """W x + b + (alpha / r) B A x (section 4.1)."""
    network = small()
    add_low_rank_updates(network, peft, 2, alpha, ["query"], ("logits",))
    adapted, x = network["layer_1"]["query"], torch.randn(5, 4)
    torch.testing.assert_close(adapted(x), adapted.base_layer(x))  # an update begins as 0
    first, second = adapted.lora_A["default"].weight, adapted.lora_B["default"].weight
    assert (first.shape, second.shape) == ((2, 4), (3, 2))
    nn.init.normal_(second)
    torch.testing.assert_close(adapted(x), adapted.base_layer(x) + alpha / 2 * x @ first.T @ second.T)


def test_updates_and_the_head_are_trained_and_nothing_else():
    network = small()
    before = network.state_dict()
    add_low_rank_updates(network, peft, 1, 1, ["query"], ("logits",))
    query = "layer_1.query"
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    updates = {f"{query}.lora_A.default.weight", f"{query}.lora_B.default.weight"}
    assert trained == updates | {"logits.query.weight", "logits.query.bias"}
    network.load_state_dict(with_low_rank_updates(before, network.state_dict()), strict=True)
    torch.testing.assert_close(network["layer_1"]["query"].base_layer.weight, before[f"{query}.weight"])


def test_a_state_with_updates_keeps_them_and_what_it_lacks_is_not_made_up():
    trained, network = small(), small()
    for one in (trained, network):
        add_low_rank_updates(one, peft, 1, 1, ["query"], ("logits",))
    update = "layer_1.query.lora_B.default.weight"
    state = trained.state_dict() | {update: torch.ones(3, 1)}
    assert torch.equal(with_low_rank_updates(state, network.state_dict())[update], torch.ones(3, 1))
    del state["layer_1.key.weight"]
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"layer_1.key.weight\""):
        network.load_state_dict(with_low_rank_updates(state, network.state_dict()), strict=True)


def test_unknown_targets_list_the_linear_layers():
    with pytest.raises(ValueError, match=r"lora_targets=\['value'\]: .*; linear layers: key, query"):
        add_low_rank_updates(small(), peft, 1, 1, ["value"], ("logits",))
