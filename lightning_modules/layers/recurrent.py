"""Recurrent layers over a sequence of frame features: vanilla RNN, LSTM, GRU."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

Cell = Literal["rnn", "lstm", "gru"]
Readout = Literal["last", "mean", "every"]

_CELLS: dict[str, type[nn.RNN] | type[nn.LSTM] | type[nn.GRU]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class Recurrence(nn.Module):
    """Recurrent layers that return the hidden state of every time step: float (N, T, D) to (N, T, H).

    H is `hidden_size`, or twice that if bidirectional: the forward state, then the backward state.

    Args:
        input_size: D.
        hidden_size: size of the hidden state of one direction.
        cell: `rnn` (tanh), `lstm` or `gru`.
        num_layers: number of stacked layers, each reading the states of the previous one.
        bidirectional: whether to read the sequence backward too.
        dropout: dropout probability between stacked layers.
        longest_dependency: T, initial biases of the gates for states that last for 1 to T steps, instead of torch's,
            with which half of a state is left after one or two steps: chrono initialization (Tallec and Ollivier 2018,
            "Can recurrent neural networks warp time?"). At least 2; not for `rnn`, which has no gates.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        cell: Cell = "lstm",
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        longest_dependency: int | None = None,
    ) -> None:
        super().__init__()
        if cell not in _CELLS:
            raise ValueError(f"cell={cell!r}: must be one of {', '.join(_CELLS)}")
        for name, value in (("hidden_size", hidden_size), ("num_layers", num_layers)):
            if value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        self.cells = _CELLS[cell](
            input_size,
            hidden_size,
            num_layers,
            batch_first=True,
            bidirectional=bidirectional,
            dropout=dropout if num_layers > 1 else 0.0,
        )
        self.output_size = hidden_size * (2 if bidirectional else 1)
        if longest_dependency is not None:
            if cell == "rnn" or longest_dependency < 2:
                raise ValueError(
                    f"longest_dependency={longest_dependency}: must be at least 2, and the cell lstm or gru, not {cell}"
                )
            self._initialize_gates(longest_dependency)

    @torch.no_grad()
    def _initialize_gates(self, longest: int) -> None:
        """Draws T from 1 to `longest` - 1 for each unit; its forget gate is open for about T steps.

        The forget bias is log T, so that the gate is T / (T + 1), and that of an LSTM's input gate - log T. In a GRU
        the update gate of torch is the share of the state that is kept.
        """
        gates = 4 if isinstance(self.cells, nn.LSTM) else 3  # input, forget, cell, output; reset, update, new
        for name, bias in self.cells.named_parameters():
            if not name.startswith("bias"):
                continue
            first, forget = bias.chunk(gates)[:2]
            if name.startswith("bias_hh"):  # torch adds two biases
                forget.zero_()
            else:
                forget.uniform_(1, max(longest - 1, 1)).log_()
            if gates == 4:
                first.copy_(-forget)

    def forward(self, x: Tensor) -> Tensor:
        """The states of the last layer: (N, T, D) to (N, T, H)."""
        states: Tensor = self.cells(x)[0]
        return states


class TemporalPooling(nn.Module):
    """Pools a sequence of states into one vector, (N, T, H) to (N, H); or with `every` leaves it as it is.

    `last` is the state after the whole clip was read (many-to-one): the last step of the forward direction, the first
    step of the backward direction. `mean` is the mean over time; a linear classifier on it gives the mean of the
    frames' logits (many-to-many, as LRCN averages its predictions).

    Args:
        method: `last`, `mean`, or `every` for a network that labels each frame.
        bidirectional: whether the second half of H is the backward state.
    """

    def __init__(self, method: Readout, bidirectional: bool = False) -> None:
        super().__init__()
        if method not in get_args(Readout):
            raise ValueError(f"readout={method!r}: must be {', '.join(get_args(Readout))}")
        self.method = method
        self.bidirectional = bidirectional

    def forward(self, states: Tensor) -> Tensor:
        """States (N, T, H) to a vector (N, H), or with `every` to themselves."""
        if self.method == "every":
            return states
        if self.method == "mean":
            return states.mean(dim=1)
        if not self.bidirectional:
            return states[:, -1]
        half = states.shape[2] // 2
        last = states.new_empty(states.shape[0], states.shape[2])
        last[:, :half], last[:, half:] = states[:, -1, :half], states[:, 0, half:]
        return last
