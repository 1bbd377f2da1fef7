"""Private interfaces of torch that are used here, as read in version 2.13.0; a test checks each of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm  # the base class of all batch norms
from torch.nn.modules.conv import _ConvTransposeNd as ConvTranspose  # the base class of all transposed convolutions

__all__ = [
    "BatchNorm",
    "ConvTranspose",
    "child_names",
    "has_forward_hooks",
    "is_compiled",
    "leave_out_step",
    "set_compiled_call",
]


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether something is called before or after the module's `forward`."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def child_names(module: nn.Module) -> list[str]:
    """The names of a module's children in order, also of one that is there twice, which `named_children` leaves out."""
    return list(module._modules)


def is_compiled(module: nn.Module) -> bool:
    """Whether the module's forward pass runs through torch.compile, by `module.compile()` or `set_compiled_call`."""
    return module._compiled_call_impl is not None


def set_compiled_call(module: nn.Module, call: Callable[..., Any]) -> None:
    """Sets what runs when the module is called, as `module.compile()` does; copies and saved modules do not have it."""
    module._compiled_call_impl = call


def leave_out_step(optimizer: torch.optim.Optimizer, flag: Tensor) -> bool:
    """Makes the next step of a fused optimizer depend on a flag, on the device, as a gradient scaler does.

    Args:
        optimizer: the optimizer.
        flag: bool, a scalar on the device of the parameters; true leaves the step out.

    Returns:
        False for other optimizers, and for SGD before its momentum buffers are there, which its first step makes
        without values: the next step does not depend on the flag.
    """
    groups = optimizer.param_groups
    supports_flag = getattr(optimizer, "_step_supports_amp_scaling", False)
    lacks_momentum = isinstance(optimizer, torch.optim.SGD) and groups[0]["momentum"] != 0 and not optimizer.state
    is_possible = bool(supports_flag and all(group.get("fused") for group in groups) and not lacks_momentum)
    vars(optimizer)["found_inf"] = flag.float() if is_possible else None
    return is_possible
