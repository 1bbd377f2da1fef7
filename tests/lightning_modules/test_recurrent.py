"""Recurrence against the textbook's equations, written out."""

import pytest
import torch

from lightning_modules.recurrent import Readout, Recurrence


def test_one_lstm_step_is_the_textbook_one():
    torch.manual_seed(0)
    cells = Recurrence(3, 4).double()
    x = torch.randn(1, 2, 3, dtype=torch.float64)
    w, u = cells.cells.weight_ih_l0, cells.cells.weight_hh_l0
    b = cells.cells.bias_ih_l0 + cells.cells.bias_hh_l0
    h = c = torch.zeros(4, dtype=torch.float64)
    for step in range(2):
        i, f, g, o = (w @ x[0, step] + u @ h + b).split(4)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        torch.testing.assert_close(cells(x)[0, step], h, rtol=0, atol=1e-12)


def test_one_vanilla_step_is_the_textbook_one():
    torch.manual_seed(0)
    cells = Recurrence(3, 4, cell="rnn").double()
    x = torch.randn(1, 1, 3, dtype=torch.float64)
    h = (cells.cells.weight_ih_l0 @ x[0, 0] + cells.cells.bias_ih_l0 + cells.cells.bias_hh_l0).tanh()
    torch.testing.assert_close(cells(x)[0, 0], h, rtol=0, atol=1e-12)


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_stacked_and_both_ways(cell, bidirectional):
    recurrence = Recurrence(3, 4, cell, num_layers=2, bidirectional=bidirectional)
    assert recurrence(torch.randn(2, 5, 3)).shape == (2, 5, recurrence.output_size)


def test_readouts_by_hand():
    states = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]]])
    assert Readout("mean")(states).tolist() == [[3.0, 30.0]]
    assert Readout("last")(states).tolist() == [[6.0, 60.0]]
    assert Readout("last", bidirectional=True)(states).tolist() == [[6.0, 10.0]]


def test_unknown_cell_lists_those_there_are():
    with pytest.raises(ValueError, match="cell='transformer': must be one of rnn, lstm, gru"):
        Recurrence(3, 4, cell="transformer")
