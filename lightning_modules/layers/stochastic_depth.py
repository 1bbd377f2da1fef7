"""Stochastic depth: training drops what a residual block adds, for some samples of a batch.

Huang, Sun, Liu, Sedra, Weinberger: "Deep Networks with Stochastic Depth", ECCV 2016, with the linear decay rule.
"""

import torch
from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """Sets the output of a residual branch to zero for a fraction of the samples, in training; scales the others.

    Args:
        probability: fraction of the samples, in [0, 1).
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """(N, ...) to the same shape."""
        if not self.training or self.probability == 0:
            return x
        kept = 1 - self.probability
        mask = torch.rand((len(x), *(1,) * (x.ndim - 1)), dtype=x.dtype, device=x.device) < kept
        return x * mask / kept

    def extra_repr(self) -> str:
        """The probability, for printing."""
        return f"{self.probability:g}"


def depth_probabilities(rate: float, num_layers: int) -> list[float]:
    """Probabilities that rise linearly from 0 in the first layer to `rate` in the last."""
    return [rate * layer / max(1, num_layers - 1) for layer in range(num_layers)]
