"""Selection of layers by name prefix: `Mixed_5` selects every layer whose name begins with it."""

from collections.abc import Iterable, Iterator

from torch import nn

from lightning_modules.layers.parameter_sharding import class_before_sharding

_STAGES = "stages."


def layer_name(name: str) -> str:
    """A module's or parameter's name without the prefix of the stages: `stages.Mixed_5c.b0` is `Mixed_5c.b0`."""
    return name.removeprefix(_STAGES)


def longest_prefix(name: str, prefixes: Iterable[str]) -> str | None:
    """The longest of the prefixes that a layer's name begins with; None if there is none.

    A number at the end of a prefix is a whole number: `layer_1` selects layer_1 and not layer_12.
    """
    return max((prefix for prefix in prefixes if _begins(name, prefix)), key=len, default=None)


def _begins(name: str, prefix: str) -> bool:
    cuts_number = prefix[-1:].isdecimal() and name[len(prefix) : len(prefix) + 1].isdecimal()
    return name.startswith(prefix) and not cuts_number


def layers_named(network: nn.Module, prefixes: Iterable[str]) -> Iterator[nn.Module]:
    """The modules whose names begin with one of the prefixes."""
    prefixes = list(prefixes)
    for name, module in network.named_modules():
        if longest_prefix(layer_name(name), prefixes) is not None:
            yield module


def freeze_layers(network: nn.Module, prefixes: Iterable[str]) -> None:
    """Freezes layers: no gradients, and evaluation mode, which also fixes batch norm statistics."""
    for module in layers_named(network, prefixes):
        module.requires_grad_(False).eval()


def refuse_unknown_prefixes(argument: str, prefixes: Iterable[str], network: nn.Module) -> None:
    """Raises ValueError for a prefix that no layer's name begins with; the message lists the stages."""
    names = [layer_name(name) for name, _ in network.named_modules()]
    for prefix in prefixes:
        if not prefix or not any(_begins(name, prefix) for name in names):
            stages = ", ".join(name for name, _ in network.get_submodule(_STAGES[:-1]).named_children())
            name = class_before_sharding(network).__name__
            raise ValueError(f"{argument}: {prefix!r} is no layer of {name}; its stages are {stages}")
