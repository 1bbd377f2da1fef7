"""From a video's vector to words: the decoder by equations, and each of its three sources of words on its own."""

import pytest
import torch
from pytorch_lightning import Trainer

from lightning_modules import VideoDescriber, VideoNetwork
from lightning_modules.captions.caption_decoder import WordDecoder
from lightning_modules.captions.vocabulary import BEGIN, END, Vocabulary
from tests.lightning_modules.clip_batches import moving_bars
from tests.lightning_modules.layers.recurrence_equations import run_equations
from tests.lightning_modules.networks.test_video_captioner import CAPTIONS, QUIET, bars, loader, small

EXACT = {"rtol": 0, "atol": 1e-12}
LAYERS = 3


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return WordDecoder(num_words=7, embedding_size=4, hidden_size=5, num_layers=LAYERS, dropout=0.5).double().eval()


def a_state(count=1):
    return tuple(torch.randn(LAYERS, count, 5, dtype=torch.float64) for _ in range(2)), torch.randn(
        count, 5, dtype=torch.float64
    )


def test_the_decoder_is_its_equations(decoder):
    """x_t = (embedding of the word before, the video's vector); an LSTM from the given state; W (h_t, vector) + b."""
    state, seen = a_state(2)
    words = torch.tensor([[0, 3, 5], [6, 6, 2]])
    logits, _ = decoder(words, state, seen)
    assert logits.shape == (2, 3, 7)
    for video in range(2):
        x = torch.stack([torch.cat([decoder.embedding.weight[word], seen[video]]) for word in words[video]])
        begin = [part[:, video] for part in state]
        hidden = run_equations("lstm", decoder.cells, x, LAYERS, begin=begin).states
        both = torch.cat([hidden, seen[video].expand(3, -1)], dim=1)
        torch.testing.assert_close(logits[video], both @ decoder.output.weight.T + decoder.output.bias, **EXACT)


def test_the_state_after_words_is_where_the_next_one_goes_on(decoder):
    state, seen = a_state()
    words = torch.tensor([[0, 3, 5]])
    whole, _ = decoder(words, state, seen)
    for place in range(3):
        logits, state = decoder(words[:, place : place + 1], state, seen)
        torch.testing.assert_close(logits[:, 0], whole[:, place], **EXACT)


def test_dropout_is_on_embeddings_and_before_words():
    decoder = (
        small(vocabulary=["a", "b", "c", "d"], dropout=1.0, num_layers=LAYERS, hidden_size=5).decoder.train().double()
    )
    state, seen = a_state()
    logits, (hidden, cell) = decoder(torch.tensor([[0, 3, 5]]), state, seen)
    assert torch.equal(logits[0], decoder.output.bias.expand(3, -1))
    x = torch.cat([torch.zeros(3, decoder.embedding.embedding_dim, dtype=torch.float64), seen.expand(3, -1)], dim=1)
    run = run_equations("lstm", decoder.cells, x, LAYERS, begin=[part[:, 0] for part in state])
    torch.testing.assert_close(hidden[:, 0], run.hidden, **EXACT)
    torch.testing.assert_close(cell[:, 0], run.cell, **EXACT)


def moved(one, other):
    return float((one - other).detach().abs().max())


def test_a_word_depends_on_all_words_before_it_and_on_none_after(decoder):
    state, seen = a_state()
    one, _ = decoder(torch.tensor([[0, 3, 5, 4]]), state, seen)
    other, _ = decoder(torch.tensor([[0, 6, 5, 4]]), state, seen)
    assert torch.equal(one[0, 0], other[0, 0])
    assert all(moved(one[0, place], other[0, place]) > 1e-7 for place in (1, 2, 3))


def test_every_step_sees_the_video_s_vector_where_the_state_tells_nothing(decoder):
    state, _ = a_state()
    words = torch.tensor([[0, 3, 5, 4]])
    one, other = (decoder(words, state, torch.randn(1, 5, dtype=torch.float64))[0] for _ in range(2))
    assert all(moved(one[0, place], other[0, place]) > 1e-4 for place in range(4))
    with torch.no_grad():
        decoder.output.weight[:, 5:] = 0  # the short way; the LSTM sees it too
    one, other = (decoder(words, state, torch.randn(1, 5, dtype=torch.float64))[0] for _ in range(2))
    assert all(moved(one[0, place], other[0, place]) > 1e-4 for place in range(4))


def test_it_begins_with_the_state_where_the_vector_tells_nothing(decoder):
    _, seen = a_state()
    words = torch.tensor([[0, 3, 5, 4]])
    (one, _), (other, _) = (decoder(words, a_state()[0], seen) for _ in range(2))
    assert all(moved(one[0, place], other[0, place]) > 1e-4 for place in range(4))


@pytest.mark.parametrize("readout", ["last", "mean"])
def test_the_network_tells_the_decoder_its_last_state_and_its_readout(readout):
    """By equations on the frames: hidden state and cell after the last frame of every layer, and the vector."""
    model = small(encoder="pixels:3", num_layers=LAYERS, readout=readout, hidden_size=4).double().eval()
    clip = torch.randn(1, 3, 5, 6, 6, dtype=torch.float64)
    frames = clip[0].mean(0).unflatten(1, (3, 2)).unflatten(3, (3, 2)).mean((2, 4)).flatten(1)
    last, cell, seen = model.clip_states(clip)
    run = run_equations("lstm", model.stages.hidden.cells, frames, LAYERS)
    torch.testing.assert_close(last[:, 0], run.hidden, **EXACT)
    torch.testing.assert_close(cell[:, 0], run.cell, **EXACT)
    torch.testing.assert_close(seen[0, 0], run.states[-1] if readout == "last" else run.states.mean(0), **EXACT)
    assert model.decoder.cells.num_layers == LAYERS


def told(model, state=1.0, vector=1.0):
    """What videos are told to a decoder by, with one of the two taken away."""
    last, cell, seen = model.video_states(bars(4))
    return last * state, cell * state, seen * vector


@pytest.mark.parametrize("taken_away", ["state", "vector"])
def test_two_captions_are_learnt_by_each_way_from_the_video_alone(taken_away):
    """Bars that fall and bars that rise, with the state that the decoder begins with, or the vector, set to zeros."""
    model = small(max_length=8)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    captions = [CAPTIONS[label] for label in bars(4).labels.tolist()]
    for _ in range(60):
        optimizer.zero_grad()
        model.word_losses(told(model, **{taken_away: 0.0}), captions).mean().backward()
        optimizer.step()
    with torch.no_grad():
        said, _ = model.eval().generate(told(model, **{taken_away: 0.0}))
    assert said == ["a bar falls slowly", "the bar rises"] * 2


def test_greedy_words_are_the_decoder_s_own_from_the_video_s_state():
    """A beam of one against the decoder called by hand: what `generate` gives is what `word_losses` trains."""
    model = small(vocabulary=["a", "b", "c"]).eval()
    with torch.no_grad():
        model.decoder.embedding.weight.mul_(5)
        last, cell, seen = model.video_states(bars(2))
        said, scores = model.generate((last, cell, seen), beam_size=1)
        for video, caption in enumerate(said):
            lstm, numbers, total = (last[:, video : video + 1], cell[:, video : video + 1]), [BEGIN], 0.0
            while len(numbers) <= model.max_length and numbers[-1] != END:
                logits, lstm = model.decoder(torch.tensor([numbers[-1:]]), lstm, seen[0, video : video + 1])
                logs = logits[0, 0].log_softmax(0)
                allowed = [number for number in range(len(logs)) if number not in (BEGIN, 2)]
                numbers.append(max(allowed, key=lambda number: logs[number].item()))
                total += logs[numbers[-1]].item()
            assert caption == model.vocabulary.decode(numbers)
            assert scores[video].item() == pytest.approx(total, abs=1e-5)


def test_the_beam_is_as_wide_as_was_asked_for():
    """`a` is likelier than `b`, and `b` at the end likelier than `a` at the end: only a beam of two finds that."""
    after = torch.full((7, 7), -20.0)  # scores of words after a word
    after[BEGIN, 3], after[BEGIN, 4], after[4, END] = 1.0, 0.9, 1.0
    after[3, [END, 5, 6]] = torch.tensor([1.1, 1.0, 1.0])
    for width, asked, expected in ((1, None, "a"), (2, None, "b"), (2, 1, "a"), (1, 2, "b")):
        model = small(vocabulary=["a", "b", "c", "d"], beam_size=width, max_length=2).eval()
        model.decoder.forward = lambda words, state, seen: (after[words], state)
        with torch.no_grad():
            assert model.generate(model.video_states(bars(1)), asked)[0] == [expected], (width, asked)


class TestCharacters:
    """`units: characters`: letters, capitals, commas and blanks, not words in small letters."""

    def test_the_network_learns_and_says_letters(self, tmp_path):
        captions = ["Up!", "no, Down"]
        model = VideoDescriber(
            training_captions=captions, units="characters", channels=(8, 16), hidden_size=24, embedding_size=8,
            dropout=0.0, max_length=10, optimizer="adamw", learning_rate=0.02, weight_decay=0.0,
        )  # fmt: skip
        assert model.vocabulary.units == "characters"
        assert sorted(model.vocabulary.tokens) == sorted(set("".join(captions)))
        batch = moving_bars(8)
        batch = batch._replace(captions=[[captions[label]] for label in batch.labels.tolist()])
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(60):
            optimizer.zero_grad()
            model.word_losses(model.video_states(batch), [one for [one] in batch.captions]).mean().backward()
            optimizer.step()
        with torch.no_grad():
            assert model.eval().predict_step(batch, 0)["captions"] == ["Up!", "no, Down"] * 4
        trainer = Trainer(**QUIET, max_epochs=0, default_root_dir=tmp_path)
        trainer.fit(model, loader(1))
        trainer.save_checkpoint(tmp_path / "letters.ckpt")
        loaded = VideoNetwork.load(tmp_path / "letters.ckpt")
        assert loaded.vocabulary.units == "characters"
        assert loaded.predict_step(batch, 0)["captions"][:2] == ["Up!", "no, Down"]
        other = small(training_captions=["something else"])  # of words: the checkpoint's are letters
        trainer.test(other, loader(1), ckpt_path=str(tmp_path / "letters.ckpt"), weights_only=True, verbose=False)
        assert other.vocabulary.units == other.hparams["units"] == "characters"
        assert other.eval().predict_step(batch, 0)["captions"][:2] == ["Up!", "no, Down"]

    @pytest.mark.parametrize(("units", "expected"), [("characters", ["A", "b"]), ("words", ["ab", "ba"])])
    def test_words_given_or_learnt_from_the_data_are_of_these_units(self, units, expected, tmp_path):
        given = small(vocabulary=expected, units=units)
        assert given.vocabulary.encode("Ab ba") == (Vocabulary(expected, units).encode("Ab ba"))
        learning = small(training_captions=None, units=units)
        learning.trainer = Trainer(**QUIET, default_root_dir=tmp_path)
        learning.trainer.datamodule = type("Data", (), {"training_captions": ["Ab ba"]})()
        learning.setup("fit")
        assert learning.vocabulary.units == units
        assert set(learning.vocabulary.tokens) == set("Ab ba" if units == "characters" else expected)

    def test_the_loss_counts_letters(self):
        model = small(training_captions=["ab ba"], units="characters", max_length=20)
        losses = model.word_losses(model.video_states(bars(1)), ["ab ba"])
        assert len(losses) == 6  # five letters, the blank one of them, and the end
