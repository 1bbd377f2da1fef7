"""Networks in shards on a process group of one rank: the same loss and gradients as whole ones."""

import copy

import pytest
import torch
from torch.distributed.device_mesh import init_device_mesh

from lightning_modules import C3D, CNNLSTM, I3D, TwoStream, VideoClassifier
from lightning_modules.layers.parameter_sharding import (
    class_before_sharding,
    gather_parameters,
    gathered_parameters,
    is_sharded,
    release_parameters,
    shard_parameters,
    sharding_units,
    whole_tensor,
)
from tests.process_group import one_rank, rank_variables  # noqa: F401 # fixtures

TINY = {"width": 2, "num_frames": 16, "crop_size": 32}
MAKE = {
    "C3D": lambda: C3D(num_classes=2, batch_norm=True, dropout=0.0, **TINY),
    "I3D": lambda: I3D(num_classes=2, dropout=0.0),
    "two streams, logits": lambda: TwoStream(num_classes=2, network="C3D", network_args=TINY),
    "two streams, features": lambda: TwoStream(num_classes=2, network="C3D", network_args=TINY, fusion="features"),
}


def gradients(network: VideoClassifier) -> dict[str, torch.Tensor]:
    clips = torch.rand(2, network.num_channels, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    network.loss_and_logits(clips, torch.tensor([0, 1]))[0].backward()
    return {name: whole_tensor(weight.grad) for name, weight in network.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("name", MAKE)
def test_gradients_are_those_of_the_whole_network(one_rank: None, name: str) -> None:  # noqa: F811
    torch.manual_seed(1)
    network = MAKE[name]()
    whole = gradients(copy.deepcopy(network))
    shard_parameters(network, init_device_mesh("cpu", (1,)))
    sharded = gradients(network)
    assert sharded.keys() == whole.keys()
    for weight, gradient in sharded.items():
        assert torch.allclose(gradient, whole[weight], atol=1e-6), weight


def test_what_is_gathered_for_a_validation_trains_on(one_rank: None) -> None:  # noqa: F811
    network = MAKE["C3D"]()
    shard_parameters(network, init_device_mesh("cpu", (1,)))
    shards = [type(weight.data) for weight in network.parameters()]
    with torch.inference_mode():  # the first gathering of all, as in the validation before training
        gather_parameters(network)
        assert all(type(weight.data) is torch.Tensor for weight in network.stages.parameters())
        network.clip_logits(torch.zeros(1, 3, 16, 32, 32))
        assert all(type(weight.data) is torch.Tensor for weight in network.stages.parameters())  # for the next batch
        release_parameters(network)
    assert [type(weight.data) for weight in network.parameters()] == shards
    assert gradients(network)
    with gathered_parameters(network):
        assert all(type(weight.data) is torch.Tensor for weight in network.stages.parameters())
    assert [type(weight.data) for weight in network.parameters()] == shards


def test_the_class_stays_that_of_the_network(one_rank: None) -> None:  # noqa: F811
    network = MAKE["C3D"]()
    assert not is_sharded(network)
    shard_parameters(network, init_device_mesh("cpu", (1,)))
    assert is_sharded(network)
    assert type(network) is not C3D
    assert class_before_sharding(network) is C3D
    checkpoint: dict = {}
    network.on_save_checkpoint(checkpoint)
    assert checkpoint["classifier"]["class_path"] == "lightning_modules.C3D"


def test_units_are_the_stages_without_recurrent_layers() -> None:
    c3d = MAKE["C3D"]()
    assert sharding_units(c3d) == [stage for stage in c3d.stages if list(stage.parameters())]
    lstm = CNNLSTM(num_classes=2, channels=(2, 2), hidden_size=4)
    names = [name for name, stage in lstm.stages.named_children() if stage in sharding_units(lstm)]
    assert names[0] == "frames"
    assert "hidden" not in names
