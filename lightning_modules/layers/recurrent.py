"""Recurrent layers over a sequence of frame features: vanilla RNN, LSTM, GRU."""

from typing import Literal

from torch import Tensor, nn

Cell = Literal["rnn", "lstm", "gru"]

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
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        cell: Cell = "lstm",
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
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

    def forward(self, x: Tensor) -> Tensor:
        """The states of the last layer: (N, T, D) to (N, T, H)."""
        states: Tensor = self.cells(x)[0]
        return states


class TemporalPooling(nn.Module):
    """Pools a sequence of states into one vector: (N, T, H) to (N, H).

    `last` is the state after the whole clip was read (many-to-one): the last step of the forward direction, the first
    step of the backward direction. `mean` is the mean over time; a linear classifier on it gives the mean of the
    frames' logits (many-to-many, as LRCN averages its predictions).

    Args:
        method: `last` or `mean`.
        bidirectional: whether the second half of H is the backward state.
    """

    def __init__(self, method: Literal["last", "mean"], bidirectional: bool = False) -> None:
        super().__init__()
        if method not in ("last", "mean"):
            raise ValueError(f"readout={method!r}: must be last or mean")
        self.method = method
        self.bidirectional = bidirectional

    def forward(self, states: Tensor) -> Tensor:
        """States (N, T, H) to a vector (N, H)."""
        if self.method == "mean":
            return states.mean(dim=1)
        if not self.bidirectional:
            return states[:, -1]
        half = states.shape[2] // 2
        last = states.new_empty(states.shape[0], states.shape[2])
        last[:, :half], last[:, half:] = states[:, -1, :half], states[:, 0, half:]
        return last
