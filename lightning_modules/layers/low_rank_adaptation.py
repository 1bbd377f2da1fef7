"""LoRA through peft: low-rank updates of frozen linear layers.

Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang, Chen: "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

_LORA_KEY = re.compile(r"\.lora_\w+\.")


def add_low_rank_updates(
    network: nn.Module, peft: Any, rank: int, alpha: float, targets: Sequence[str], trained: tuple[str, ...]
) -> None:
    """Freezes a network but for some layers, and adds trainable low-rank updates to linear layers of the rest.

    Args:
        network: the network, which is changed in place; an update begins as 0.
        peft: the module.
        rank: r, the rank of the updates.
        alpha: the updates are multiplied by alpha / r.
        targets: last parts of the names of the layers to update, such as `query`.
        trained: prefixes of the names of the layers that are trained as they are.

    Raises:
        ValueError: no layer has such a name, or one that has cannot be updated.
    """
    pattern = rf"(?!({'|'.join(map(re.escape, trained))})\b).*\.({'|'.join(map(re.escape, targets))})"
    try:
        peft.inject_adapter_in_model(peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=pattern), network)
    except ValueError as error:
        linear = {name.rpartition(".")[2] for name, module in network.named_modules() if isinstance(module, nn.Linear)}
        raise ValueError(
            f"lora_targets={list(targets)}: {str(error).split('. ')[0]}; linear layers: {', '.join(sorted(linear))}"
        ) from error
    for name, parameter in network.named_parameters():  # peft freezes all but its updates
        if name.startswith(trained):
            parameter.requires_grad_(True)


def with_low_rank_updates(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without updates, in the names of a network that has them; the updates are the network's own.

    Args:
        state: state dict of the network without updates, or with them.
        own: state dict of the network with updates.
    """
    adapted = {_base_key(key, own): value for key, value in state.items()}
    return adapted | {key: value for key, value in own.items() if _LORA_KEY.search(key) and key not in adapted}


def _base_key(key: str, own: Collection[str]) -> str:
    module, _, parameter = key.rpartition(".")
    base = f"{module}.base_layer.{parameter}"
    return base if key not in own and base in own else key
