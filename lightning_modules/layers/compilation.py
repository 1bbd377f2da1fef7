"""`compile_network`: torch.compile of a network as one graph, with static shapes."""

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.layers.torch_internals import is_compiled, set_compiled_call

Backend = str | Callable[..., Any]


class StaticGraphs:
    """Forward pass of a network, compiled for the largest batch of each kind; smaller batches run without compilation.

    The last batch of an epoch may be smaller, as may one of which a video could not be decoded. Left to itself, torch
    would compile a graph with dynamic shapes at the first of them, and run all later batches on it; with static shapes
    alone it would compile once for every size. A kind is mode, gradients, dtype and shape of a clip.

    Args:
        network: the network, of one argument.
        backend: that of torch.compile.
    """

    def __init__(self, network: nn.Module, backend: Backend) -> None:
        self._network = network
        self._compiled = torch.compile(self._forward, dynamic=False, backend=backend)
        self._largest: dict[Hashable, int] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """The network's output."""
        kind = (self._network.training, torch.is_grad_enabled(), x.dtype, x.shape[1:])
        if len(x) < self._largest.get(kind, 0):
            return self._forward(x)
        self._largest[kind] = len(x)
        return self._compiled(x)

    def _forward(self, x: Tensor) -> Tensor:
        """The frame in which torch compiles: it skips those of its own modules, such as that of `nn.Sequential`."""
        output: Tensor = self._network.forward(x)
        return output


def compile_network(network: nn.Module, device: torch.device, backend: Backend = "inductor") -> None:
    """Compiles a network of one argument in place with torch.compile; names in the state dict do not change.

    Copies of the network are not compiled.

    Args:
        network: the network; its forward hooks are not called, those of its layers are.
        device: where it will run.
        backend: that of torch.compile.

    Raises:
        ValueError: torch.compile does not work on the device.
    """
    if is_compiled(network):
        return
    try:
        # A trial, so that a missing compiler is reported here and not in the first training step.
        torch.compile(torch.nn.functional.relu, backend=backend)(torch.zeros(2, device=device))
    except Exception as error:  # torch and its backends raise many types
        cause = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"compile=True: torch.compile does not work here ({cause.strip()}); install a C++ compiler (and Triton "
            "for GPUs), or leave compile out"
        ) from error
    set_compiled_call(network, StaticGraphs(network, backend))
