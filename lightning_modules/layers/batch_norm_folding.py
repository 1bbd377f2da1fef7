"""Batch norm folding: merges batch norms into the convolutions before them, for faster inference with equal results.

In evaluation mode a batch norm is a fixed scale and shift per channel, which the filters and the bias of the preceding
convolution can absorb (Jacob et al.: "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", CVPR 2018, section 3.2, equation 14).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Protocol, runtime_checkable

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from lightning_modules.layers.inception_layers import Convolution
from lightning_modules.layers.layer_selection import layer_name
from lightning_modules.layers.onednn_convolution import Conv3d
from lightning_modules.layers.torch_internals import child_names, has_forward_hooks


@runtime_checkable
class HasEndpoints(Protocol):
    """Protocol of networks whose intermediate outputs are available by name."""

    @property
    def endpoints_available(self) -> list[str]:
        """Names of the layers whose outputs are available, in the order of the forward pass."""


_NORM_AFTER: dict[type[nn.Module], type[nn.Module]] = {
    nn.Conv2d: nn.BatchNorm2d,
    nn.Conv3d: nn.BatchNorm3d,
    Conv3d: nn.BatchNorm3d,
}


def fold_batch_norms(network: nn.Module) -> int:
    """Folds batch norms in evaluation mode into the convolutions right before them, in place.

    All endpoints keep their values, up to rounding. A convolution is left unchanged if it is an endpoint itself, if it
    or its batch norm has hooks, parametrizations or a second use, or if the batch norm uses batch statistics. Pairs are
    found in the Inception networks' `Convolution` layers and in every `nn.Sequential`; others are left unchanged.

    The network is for inference afterwards: it can no longer be trained as before, and its state dict differs from its
    checkpoint's.

    Args:
        network: a network in evaluation mode; `endpoints_available` names the layers whose outputs are requested.

    Returns:
        Number of batch norms that were folded.

    Raises:
        ValueError: the network is in training mode, in which batch norms use batch statistics.
    """
    if network.training:
        raise ValueError(f"{type(network).__name__} is in training mode: call eval() before its batch norms are folded")
    pairs = list(_foldable_pairs(network))
    for owner, first, second in pairs:
        convolution, norm = owner.get_submodule(first), owner.get_submodule(second)
        assert isinstance(convolution, (nn.Conv2d, nn.Conv3d))
        assert isinstance(norm, (nn.BatchNorm2d, nn.BatchNorm3d))
        setattr(owner, first, fuse_conv_bn_eval(convolution, norm))
        setattr(owner, second, nn.Identity())
    return len(pairs)


def _foldable_pairs(network: nn.Module) -> Iterator[tuple[nn.Module, str, str]]:
    """Yields a module, and the names of two of its children: a convolution and the batch norm that is its only user."""
    uses = Counter(module for _, module in network.named_modules(remove_duplicate=False))
    endpoints = network.endpoints_available if isinstance(network, HasEndpoints) else []
    for path, owner in network.named_modules():
        for first, second in _adjacent_children(owner):
            convolution, norm = owner.get_submodule(first), owner.get_submodule(second)
            endpoint = layer_name(f"{path}.{first}") in endpoints
            if not endpoint and uses[convolution] == uses[norm] == 1 and _can_be_folded(convolution, norm):
                yield owner, first, second


def _adjacent_children(owner: nn.Module) -> Iterable[tuple[str, str]]:
    """Pairs of names of children of which the second runs right after the first."""
    if type(owner).forward is Convolution.forward:
        return [("conv", "bn")]
    if type(owner).forward is nn.Sequential.forward:
        # Not `named_children`: it lists a module that runs twice once, which would make others look adjacent.
        return pairwise(child_names(owner))
    return []


def _can_be_folded(convolution: nn.Module, norm: nn.Module) -> bool:
    norm_type = _NORM_AFTER.get(type(convolution))  # a parametrized module has another type
    if norm_type is None or type(norm) is not norm_type or norm.training or norm.running_mean is None:
        return False
    return not (has_forward_hooks(convolution) or has_forward_hooks(norm))
