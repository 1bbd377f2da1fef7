"""What is used of torch that is not its public interface; read in torch 2.13.0, where a test looks at each again."""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm  # the base class of all batch norms

__all__ = ["BatchNorm", "child_names", "has_forward_hooks"]


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether something is called before or after the module's `forward`."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def child_names(module: nn.Module) -> list[str]:
    """The names of a module's children in order, also of one that is there twice, which `named_children` leaves out."""
    return list(module._modules)
