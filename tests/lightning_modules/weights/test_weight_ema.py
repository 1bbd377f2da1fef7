"""`WeightEMA` averages as Lightning's callback does, in a number of operations that does not grow with the layers."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_modules.layers.execution_options import use_channels_last
from lightning_modules.weights.weight_ema import EMANetwork, WeightEMA


class Operations(TorchDispatchMode):
    """Counts the operations of torch."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def network(layers: int) -> nn.Sequential:
    blocks = [nn.Sequential(nn.Conv3d(2, 2, 3), nn.BatchNorm3d(2, track_running_stats=False)) for _ in range(layers)]
    return nn.Sequential(*blocks, nn.Linear(2, 2).double(), nn.BatchNorm3d(2))


def train(model: nn.Module) -> None:
    """Another value in each parameter and buffer."""
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.copy_(tensor + torch.randn(tensor.shape) if tensor.is_floating_point() else tensor + 3)


def test_averages_are_those_of_lightnings_callback():
    torch.manual_seed(0)
    model = network(2)
    ours = EMANetwork(model, 0.9)
    theirs = AveragedModel(model, avg_fn=get_ema_avg_fn(0.9), use_buffers=True)
    for _ in range(4):
        train(model)
        ours.update_parameters(model)
        theirs.update_parameters(model)
    expected = theirs.state_dict() | {"module.3.num_batches_tracked": torch.tensor(12)}  # whole numbers: the latest
    found = ours.state_dict()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_an_update_is_a_few_operations_whatever_the_number_of_layers():
    counts = []
    for layers in (1, 20):
        model = network(layers)
        average = EMANetwork(model, 0.9)
        average.update_parameters(model)
        with Operations() as operations:
            average.update_parameters(model)
        counts.append(operations.count)
    print(counts)
    assert counts[0] == counts[1] < 10


def test_the_average_lies_in_memory_as_the_weights_do():
    model = network(1)
    average = EMANetwork(model, 0.9)
    before = copy.deepcopy(average.state_dict())
    use_channels_last(model)
    average.lay_out_like(model)
    pairs = list(zip(average.module.parameters(), model.parameters(), strict=True))
    assert [own.stride() for own, _ in pairs] == [current.stride() for _, current in pairs]
    assert pairs[0][0].is_contiguous(memory_format=torch.channels_last_3d)
    assert not pairs[0][0].is_contiguous()
    assert all(torch.equal(value, before[name]) for name, value in average.state_dict().items())


@pytest.mark.parametrize(("name", "value"), [("decay", 1.5), ("decay", -0.1), ("update_every_n_steps", 0)])
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}: must be"):
        WeightEMA(**{name: value})
