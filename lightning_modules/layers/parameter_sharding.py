"""Parameters in shards (FSDP2): each rank keeps its part, and those of a unit are gathered while it computes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor


def sharding_units(network: nn.Module) -> list[nn.Module]:
    """The modules whose parameters are gathered together, in order, without the network itself, which has the rest.

    They are the children, with parameters, of each outermost `nn.Sequential` or `nn.ModuleList`: the stages of our
    networks, which are the layers of a transformer, the convolutions of C3D and the Inception blocks of I3D. Those with
    recurrent layers are left to the network, as they are small, and not always called as a whole.
    """
    if not isinstance(network, (nn.Sequential, nn.ModuleList)):
        return [unit for child in network.children() for unit in sharding_units(child)]
    units = [child for child in network.children() if next(child.parameters(), None) is not None]
    return [unit for unit in units if not any(isinstance(layer, nn.RNNBase) for layer in unit.modules())]


def shard_parameters(network: nn.Module, mesh: DeviceMesh) -> None:
    """Shards the parameters of a network in place, along their first axis; names and values do not change.

    The network then is an `FSDPModule`, too. Its `training_step` gathers the parameters outside of its units.

    Args:
        network: the network, with the same weights on all ranks.
        mesh: the ranks, one axis.
    """
    for unit in sharding_units(network):
        fully_shard(unit, mesh=mesh)
    fully_shard(network, mesh=mesh)
    register_fsdp_forward_method(network, "training_step")


def is_sharded(network: nn.Module) -> bool:
    """Whether the parameters of a network are in shards, gathered now or not."""
    return isinstance(network, FSDPModule)


def gather_parameters(network: nn.Module) -> None:
    """Gathers all parameters of a sharded network until `release_parameters`; a collective.

    Meanwhile a forward pass waits for no other rank, so that ranks may have different numbers of batches.
    """
    with torch.inference_mode(False):  # else training could not use the tensors that are allocated here
        for unit in _units(network):
            unit.set_reshard_after_forward(False, recurse=False)
            unit.unshard()


def release_parameters(network: nn.Module) -> None:
    """Leaves each rank with its shards of the parameters again."""
    with torch.inference_mode(False):
        units = _units(network)
        for unit in units:
            unit.reshard()
            unit.set_reshard_after_forward(unit is not units[0], recurse=False)  # the first is the network itself


@contextmanager
def gathered_parameters(network: nn.Module) -> Iterator[None]:
    """Context in which all parameters of a network are gathered, if they are in shards; a collective."""
    if not is_sharded(network):
        yield
        return
    gather_parameters(network)
    try:
        yield
    finally:
        release_parameters(network)


def whole_tensor(tensor: Tensor) -> Tensor:
    """A tensor of which ranks may have parts; a collective if they have."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def class_before_sharding(network: nn.Module) -> type:
    """The class of a network, of which torch makes another one where its parameters are sharded."""
    return next(ancestor for ancestor in type(network).__mro__ if not issubclass(ancestor, FSDPModule))


def _units(network: nn.Module) -> list[FSDPModule]:
    return [module for module in network.modules() if isinstance(module, FSDPModule)]
