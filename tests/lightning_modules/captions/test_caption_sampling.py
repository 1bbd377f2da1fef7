"""Captions drawn with a temperature: the right probabilities, the greedy ones near 0, and each on its own generator."""

import itertools

import pytest
import torch

from lightning_modules.captions.caption_search import beam_search, sample_sequences

END = 1


def step_of(rows):
    """A decoder whose next word depends on the last one alone."""
    return lambda last, state: (rows.log_softmax(-1)[last], state)


def generators(count, seed=0):
    return [torch.Generator().manual_seed(seed + number) for number in range(count)]


def draw(rows, temperature, count, seed=0, max_length=5):
    state = (torch.zeros(1, count, 1),)
    return sample_sequences(step_of(rows), state, 0, END, temperature, generators(count, seed), max_length)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_words_are_as_frequent_as_the_softmax_at_the_temperature_says(temperature):
    rows = torch.tensor([[-torch.inf, 0.0, 1.0, 2.0]] * 4)
    drawn = draw(rows, temperature, 2000, max_length=2).words[:, 0]
    shares = torch.bincount(drawn, minlength=4) / 2000
    torch.testing.assert_close(shares, (rows[0] / temperature).softmax(0), rtol=0, atol=0.05)  # 4.5 deviations


def test_the_score_is_the_log_probability_up_to_the_end_and_only_ends_follow():
    rows = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    logs = rows.log_softmax(-1)
    found = draw(rows, 2.0, 40)
    lengths = set()
    for words, score in zip(found.words.tolist(), found.scores.tolist(), strict=True):
        length = words.index(END) + 1 if END in words else len(words)
        assert set(words[length:]) <= {END}
        assert score == pytest.approx(
            sum(logs[pair].item() for pair in itertools.pairwise([0, *words[:length]])), abs=1e-5
        )
        lengths.add(length)
    assert len(lengths) > 2


def test_near_zero_it_is_greedy_and_a_sequence_depends_on_its_own_generator_alone():
    rows = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    greedy = beam_search(step_of(rows), (torch.zeros(1, 1, 1),), 1, 0, END, 1, 5).words[0].tolist()
    assert draw(rows, 1e-3, 3).words.tolist() == [greedy] * 3
    together = draw(rows, 1.0, 4).words
    for number in range(4):
        alone = draw(rows, 1.0, 1, seed=number).words[0]
        assert together[number, : len(alone)].tolist() == alone.tolist()
    assert len({tuple(words) for words in together.tolist()}) > 1


def test_asking_late_whether_all_have_ended_draws_the_same_sequences():
    rows = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    lengths = set()
    for seed in range(20):
        soon, late = (
            sample_sequences(
                step_of(rows), (torch.zeros(1, 2, 1),), 0, END, 1.0, generators(2, 9 * seed), 12, late=late
            )
            for late in (False, True)
        )
        assert torch.equal(soon.words, late.words)
        assert torch.equal(soon.scores, late.scores)
        lengths.add(soon.words.shape[1])
    assert len(lengths) > 3


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_above_zero(temperature):
    with pytest.raises(ValueError, match=r"temperature=.*: must be above 0"):
        draw(torch.zeros(3, 3), temperature, 1)
