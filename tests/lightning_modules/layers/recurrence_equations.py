"""The textbook's equations of RNN, LSTM and GRU, written out step by step and layer by layer: what networks must give.

Nothing of torch.nn computes here; of its modules only the weights are read.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Run(NamedTuple):
    """What the equations give for one sequence.

    Attributes:
        states: of the last layer, (T, H), or (T, 2H): forward and backward states concatenated.
        hidden: hidden state of each layer's forward direction after the last step, (layers, H).
        cell: cell state of each layer's forward direction after the last step, (layers, H); zeros except for LSTM.
    """

    states: Tensor
    hidden: Tensor
    cell: Tensor


def _rnn(x, h, c, w, u, b, d):
    return (w @ x + b + u @ h + d).tanh(), c


def _lstm(x, h, c, w, u, b, d):
    i, f, g, o = (w @ x + b + u @ h + d).split(len(h))
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(x, h, c, w, u, b, d):
    """Cho et al. 2014 with the reset gate after the product, as cuDNN has it."""
    size = len(h)
    from_input, from_state = w @ x + b, u @ h + d
    r, z = (from_input[: 2 * size] + from_state[: 2 * size]).sigmoid().split(size)
    n = (from_input[2 * size :] + r * from_state[2 * size :]).tanh()
    return (1 - z) * n + z * h, c


_STEPS = {"rnn": _rnn, "lstm": _lstm, "gru": _gru}


def run_equations(cell: str, module, x: Tensor, layers: int, both_ways: bool = False, begin=None) -> Run:
    """Runs one sequence.

    Args:
        cell: rnn, lstm or gru.
        module: torch's, for its weights.
        x: (T, D).
        layers: how many there must be.
        both_ways: whether each layer also reads from the last step to the first.
        begin: hidden state and cell before the first step, each (layers, H), of one direction; default: zeros.
    """
    hidden = module.weight_hh_l0.shape[1]
    ends = []
    for layer in range(layers):
        halves = []
        for way in ("", "_reverse")[: 1 + both_ways]:
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            parts = [getattr(module, f"{name}_l{layer}{way}") for name in names]
            h = c = x.new_zeros(hidden)
            if begin is not None:
                h, c = begin[0][layer], begin[1][layer]
            states = []
            for one in x.flip(0) if way else x:
                h, c = _STEPS[cell](one, h, c, *parts)
                states.append(h)
            if not way:
                ends.append((h, c))
            halves.append(torch.stack(states[::-1] if way else states))
        x = torch.cat(halves, dim=1)
    return Run(x, *(torch.stack(parts) for parts in zip(*ends, strict=True)))
