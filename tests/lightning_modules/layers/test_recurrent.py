"""Recurrence against the textbook's equations, written out."""

import pytest
import torch

from lightning_modules import CNNLSTM, FrameClassifier
from lightning_modules.layers.recurrent import Recurrence, TemporalPooling
from tests.lightning_modules.layers.recurrence_equations import run_equations

EXACT = {"rtol": 0, "atol": 1e-12}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_every_cell_layer_and_direction_is_the_textbook_s(cell, num_layers, bidirectional):
    """Four steps from nothing, so that what a step takes from the one before it counts."""
    torch.manual_seed(0)
    recurrence = Recurrence(3, 5, cell, num_layers, bidirectional).double()
    x = torch.randn(2, 4, 3, dtype=torch.float64)
    expected = [run_equations(cell, recurrence.cells, one, num_layers, bidirectional).states for one in x]
    assert recurrence.output_size == expected[0].shape[1]
    torch.testing.assert_close(recurrence(x), torch.stack(expected), **EXACT)


def test_two_steps_of_a_vanilla_network_by_hand():
    """h_t = tanh(W_xh x_t + W_hh h_(t-1)): 1 then 0 under weights 1 and 2 and no biases."""
    recurrence = Recurrence(1, 1, cell="rnn").double()
    with torch.no_grad():
        for parameter, value in zip(recurrence.parameters(), (1.0, 2.0, 0.0, 0.0), strict=True):
            parameter.fill_(value)
    states = recurrence(torch.tensor([[[1.0], [0.0]]], dtype=torch.float64))
    torch.testing.assert_close(
        states[0, :, 0], torch.tensor([0.761594, 0.909252], dtype=torch.float64), rtol=0, atol=1e-6
    )


def test_dropout_is_between_the_layers_and_in_training_alone():
    torch.manual_seed(0)
    recurrence = Recurrence(3, 4, "lstm", num_layers=2, dropout=1.0).double()
    x = torch.randn(1, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(
        recurrence.eval()(x)[0], run_equations("lstm", recurrence.cells, x[0], 2).states, **EXACT
    )
    second = torch.nn.LSTM(4, 4, batch_first=True, dtype=torch.float64)
    second.load_state_dict({f"{name}_l0": value for name, value in _of_layer(recurrence.cells, 1).items()})
    expected = second(torch.zeros(1, 4, 4, dtype=torch.float64))[0]  # all that the first layer says is dropped
    torch.testing.assert_close(recurrence.train()(x), expected, **EXACT)
    assert Recurrence(3, 4, dropout=0.5).cells.dropout == 0  # nothing is between the layers of one


def _of_layer(cells, layer):
    return {
        name.removesuffix(f"_l{layer}"): value
        for name, value in cells.state_dict().items()
        if name.endswith(f"_l{layer}")
    }


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("readout", ["last", "mean"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_cnn_lstm_is_its_parts_one_after_the_other(cell, readout, bidirectional):
    """Frames in order, the equations' states, their readout, a linear layer: what was asked for reaches its part."""
    torch.manual_seed(0)
    settings = {"cell": cell, "num_layers": 2, "bidirectional": bidirectional, "readout": readout}
    model = CNNLSTM(num_classes=3, encoder="pixels:3", hidden_size=4, **settings).double().eval()
    clip = torch.randn(1, 3, 5, 6, 6, dtype=torch.float64)
    found = model.endpoints(clip, model.endpoints_available)
    frames = clip[0].mean(0).unflatten(1, (3, 2)).unflatten(3, (3, 2)).mean((2, 4)).flatten(1)
    torch.testing.assert_close(found["frames"][0], frames, **EXACT)
    states = run_equations(cell, model.stages.hidden.cells, frames, 2, bidirectional).states
    torch.testing.assert_close(found["hidden"][0], states, **EXACT)
    read = states.mean(0) if readout == "mean" else torch.cat([states[-1, :4], states[0, 4:]])
    torch.testing.assert_close(found["state"][0], read, **EXACT)
    linear = model.stages.logits[1]
    torch.testing.assert_close(found["logits"][0], linear.weight @ read + linear.bias, **EXACT)
    torch.testing.assert_close(model.clip_logits(clip), found["logits"], **EXACT)


def test_dropout_is_before_the_classifier_of_cnn_lstm():
    model = CNNLSTM(num_classes=3, channels=(4,), hidden_size=4, dropout=1.0).train()
    with torch.no_grad():
        assert torch.equal(model.clip_logits(torch.randn(1, 3, 4, 16, 16))[0], model.stages.logits[1].bias)


def test_the_readout_of_lrcn_is_the_default():
    assert CNNLSTM(num_classes=2, channels=(4,), hidden_size=4).stages.state.method == "mean"


def test_a_frame_classifier_classifies_the_mean_of_its_frames_in_any_order():
    model = FrameClassifier(num_classes=3, encoder="pixels:3", dropout=1.0).double().eval()
    clip = torch.randn(1, 3, 5, 6, 6, dtype=torch.float64)
    mean = clip[0].mean((0, 1)).unflatten(0, (3, 2)).unflatten(2, (3, 2)).mean((1, 3)).flatten()
    linear = model.stages.logits[1]
    expected = linear.weight @ mean + linear.bias
    torch.testing.assert_close(model.clip_logits(clip)[0], expected, **EXACT)
    torch.testing.assert_close(model.clip_logits(clip.flip(2))[0], expected, **EXACT)
    assert torch.equal(model.train().clip_logits(clip)[0], linear.bias)  # dropout is before the classifier


def test_readouts_by_hand():
    states = torch.tensor([[[1.0, 10.0], [2.0, 20.0], [6.0, 60.0]]])
    assert TemporalPooling("mean")(states).tolist() == [[3.0, 30.0]]
    assert TemporalPooling("last")(states).tolist() == [[6.0, 60.0]]
    assert TemporalPooling("last", bidirectional=True)(states).tolist() == [[6.0, 10.0]]


def test_unknown_cell_lists_those_there_are():
    with pytest.raises(ValueError, match="cell='transformer': must be one of rnn, lstm, gru"):
        Recurrence(3, 4, cell="transformer")


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gates_open_for_up_to_the_longest_dependency(cell):
    """Without input, a state decays by T / (T + 1) a step, T from 1 to 99 (chrono initialization)."""
    torch.manual_seed(0)
    recurrence = Recurrence(1, 2000, cell, num_layers=2, bidirectional=True, longest_dependency=100)
    names = {"lstm": ["input", "forget", "cell", "output"], "gru": ["reset", "forget", "new"]}[cell]
    for suffix in ("l0", "l0_reverse", "l1", "l1_reverse"):
        biases = [getattr(recurrence.cells, f"bias_{kind}_{suffix}").chunk(len(names)) for kind in ("ih", "hh")]
        total = {name: one + other for name, one, other in zip(names, *biases, strict=True)}
        steps = total["forget"].exp()
        assert 1 <= steps.min() < 2 < 98 < steps.max() <= 99
        assert abs(steps.mean() - 50) < 3
        kept = total["forget"].sigmoid()
        torch.testing.assert_close(kept, steps / (steps + 1))
        if cell == "lstm":
            torch.testing.assert_close(total["input"].sigmoid(), 1 - kept)
        for name in names[2:]:  # the others stay as torch draws them
            assert total[name].abs().max() <= 2 / 2000**0.5


def test_cnn_lstm_s_gates_are_open_as_long_as_was_asked_for():
    model = CNNLSTM(num_classes=2, encoder="pixels:1", hidden_size=100, longest_dependency=1000)
    forget = sum(bias.chunk(4)[1] for name, bias in model.stages.hidden.cells.named_parameters() if "bias" in name)
    assert 100 < forget.exp().median() < 900


@pytest.mark.parametrize(("cell", "steps"), [("rnn", 10), ("lstm", 1)])
def test_a_longest_dependency_that_cannot_be_is_refused(cell, steps):
    with pytest.raises(ValueError, match=f"longest_dependency={steps}: must be at least 2, and the cell lstm or gru"):
        CNNLSTM(channels=(4, 8), hidden_size=8, num_classes=2, cell=cell, longest_dependency=steps)
