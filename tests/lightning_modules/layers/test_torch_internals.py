"""What is used of torch's private interfaces is there, and does what we take it for."""

import copy

import pytest
import torch
from torch import nn

from lightning_modules.layers.torch_internals import (
    BatchNorm,
    ConvTranspose,
    child_names,
    has_forward_hooks,
    is_compiled,
    leave_out_step,
    set_compiled_call,
)


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm])
def test_every_batch_norm_is_one(kind):
    assert issubclass(kind, BatchNorm)
    assert not issubclass(nn.GroupNorm, BatchNorm)


def test_hooks_are_seen():
    layer = nn.Linear(1, 1)
    assert not has_forward_hooks(layer)
    for register in (layer.register_forward_hook, layer.register_forward_pre_hook):
        hook = register(lambda *_: None)
        assert has_forward_hooks(layer)
        hook.remove()


def test_a_child_that_is_there_twice_is_named_twice():
    layer = nn.Linear(1, 1)
    assert child_names(nn.Sequential(layer, nn.ReLU(), layer)) == ["0", "1", "2"]


@pytest.mark.parametrize("kind", [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d])
def test_every_transposed_convolution_is_one(kind):
    assert issubclass(kind, ConvTranspose)
    assert not issubclass(nn.Conv3d, ConvTranspose)


def test_a_compiled_module_is_known():
    layer = nn.Linear(1, 1)
    assert not is_compiled(layer)
    layer.compile(backend="eager")
    assert is_compiled(layer)


def test_what_runs_when_a_module_is_called_can_be_set_and_copies_do_without():
    layer = nn.Identity()
    set_compiled_call(layer, lambda x: x + 1)
    assert is_compiled(layer)
    assert layer(1) == 2
    assert copy.deepcopy(layer)(1) == 1


@pytest.mark.parametrize(
    ("kind", "options"),
    [(torch.optim.SGD, {"momentum": 0.9}), (torch.optim.SGD, {}), (torch.optim.AdamW, {}), (torch.optim.Adam, {})],
)
def test_a_fused_optimizer_leaves_a_step_out_by_a_flag(kind, options):
    weight = nn.Parameter(torch.ones(3, 2))
    optimizer = kind([weight], lr=0.1, fused=True, **options)

    def step(bad, gradient=1.0):
        weight.grad = torch.full_like(weight, gradient)
        before, is_possible = weight.detach().clone(), leave_out_step(optimizer, torch.tensor(bad))
        optimizer.step()
        return is_possible, not torch.equal(before, weight)

    assert step(False) == ("momentum" not in options, True)
    kept = copy.deepcopy(optimizer.state_dict()["state"])
    assert step(True, float("nan")) == (True, False)
    for number, state in optimizer.state_dict()["state"].items():
        assert all(value is None or torch.equal(value, kept[number][name]) for name, value in state.items())
    assert step(False) == (True, True)
    assert weight.isfinite().all()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_other_optimizers_do_not(kind):
    weight = nn.Parameter(torch.ones(1))
    optimizer = kind([weight], lr=0.1)
    weight.grad = torch.ones(1)
    assert not leave_out_step(optimizer, torch.tensor(True))
    optimizer.step()
    assert weight != 1
