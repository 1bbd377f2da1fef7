"""What is used of torch's private interfaces is there, and does what we take it for."""

import copy

import pytest
from torch import nn

from lightning_modules.layers.torch_internals import (
    BatchNorm,
    ConvTranspose,
    child_names,
    has_forward_hooks,
    is_compiled,
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
