"""How weights are changed: the optimizer, which of them decay, and a learning rate that changes with every step."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import nn

OptimizerName = Literal["sgd", "adamw"]
Schedule = Literal["cosine", "constant"]


def make_optimizer(network: nn.Module, options: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer of a network's trained parameters; those of fewer than two dimensions have no weight decay.

    Args:
        network: whose parameters are to be trained.
        options: the optimizer's arguments of `VideoNetwork`.
    """
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in network.parameters() if p.requires_grad and p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": options["weight_decay"]}, {"params": others, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if options["optimizer"] == "sgd":
        momentum = options["momentum"]
        return torch.optim.SGD(groups, lr=options["learning_rate"], momentum=momentum, nesterov=momentum > 0)
    return torch.optim.AdamW(groups, lr=options["learning_rate"])


def rate_by_step(options: Mapping[str, Any], total: int) -> Callable[[int], float]:
    """The factor of the learning rate at each of `total` optimizer steps."""
    warmup = int(options["warmup_fraction"] * total)
    constant: bool = options["lr_schedule"] == "constant"

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        if constant:
            return 1.0
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))

    return factor
