"""Execution options that keep a network's results: memory layout and activation checkpointing."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from lightning_modules.layers.layer_selection import longest_prefix, refuse_unknown_prefixes
from lightning_modules.layers.space_to_depth import use_space_to_depth
from lightning_modules.layers.torch_internals import BatchNorm


@dataclass(frozen=True)
class ExecutionOptions:
    """The execution arguments of `VideoNetwork`, where each is documented.

    Raises:
        ValueError: both compilation and activation checkpointing.
    """

    channels_last: bool = False
    space_to_depth: bool = False
    compile: bool = False
    checkpoint_activations: bool | Sequence[str] = False

    def __post_init__(self) -> None:
        if self.compile and self.checkpoint_activations:
            raise ValueError(
                "compile, checkpoint_activations: give one of them; torch.compile recomputes as it sees fit"
            )

    def apply_layout(self, network: nn.Module) -> None:
        """Lays out filters and first convolution as the options say, without changing results or the state dict."""
        if self.channels_last:
            use_channels_last(network)
        if self.space_to_depth:
            use_space_to_depth(network)


def use_channels_last(network: nn.Module) -> None:
    """Stores the filters of 2D and 3D convolutions in channels-last memory format; their values do not change."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])


def recompute_activations(network: nn.Module, stages: nn.Sequential, selection: bool | Iterable[str]) -> None:
    """Activation checkpointing: stages discard their inner activations, and recompute them in the backward pass.

    Dropout repeats its random draws; running statistics of batch norms are updated once.

    Args:
        network: the network, for error messages.
        stages: the stages of the network.
        selection: prefixes of the names of stages to checkpoint; True for all but the last one.

    Raises:
        ValueError: no stage has a given prefix.
    """
    names = [name for name, _ in stages.named_children()]
    prefixes = names[:-1] if selection is True else list(selection or ())
    refuse_unknown_prefixes("checkpoint_activations", prefixes, network)
    for name, stage in stages.named_children():
        if longest_prefix(name, prefixes) is not None and "forward" not in vars(stage):
            contexts = partial(_recomputation_contexts, stage)
            # An attribute of the instance, so that the names in the state dict do not change.
            vars(stage)["forward"] = partial(checkpoint, stage.forward, use_reentrant=False, context_fn=contexts)


def _recomputation_contexts(stage: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """The contexts of the first computation and of the recomputation."""
    return nullcontext(), _frozen_running_statistics(stage)


@contextmanager
def _frozen_running_statistics(stage: nn.Module) -> Iterator[None]:
    """Context in which batch norms in training mode do not change their running statistics."""
    # Momentum 0 instead of no updates: the same code must run as the first time, or other tensors would be saved.
    norms = [module for module in stage.modules() if isinstance(module, BatchNorm) and module.training]
    momenta = [norm.momentum for norm in norms]
    counts = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.copy_(count)
