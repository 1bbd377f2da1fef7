"""Generation of sequences by a decoder of words: beam search, greedy decoding, and sampling with a temperature."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

State = tuple[Tensor, ...]
# Last words int64 (M,), state (each tensor with M as its second axis) -> log-probabilities (M, V), state after them.
DecoderStep = Callable[[Tensor, State], tuple[Tensor, State]]


class GeneratedSequences(NamedTuple):
    """One sequence of each of B videos.

    Attributes:
        words: int64 (B, L); after its end a sequence has only `end`.
        scores: float (B,), sums of log-probabilities, including that of the end if the sequence reached it.
    """

    words: Tensor
    scores: Tensor


def beam_search(
    step: DecoderStep, state: State, count: int, begin: int, end: int, beam_size: int = 1, max_length: int = 20
) -> GeneratedSequences:
    """Beam search: keeps the `beam_size` most probable partial sequences at each step; 1 is greedy decoding.

    A finished sequence stays in the beam with its score, and competes with the others until the end. A sequence without
    end is cut at `max_length` words. Scores are not normalized by length.

    Args:
        step: function of the last words and the state that returns log-probabilities of the next words and a new state.
        state: state before the first word for the B searches; each tensor has B as its second axis.
        count: B, number of searches.
        begin: the first input word.
        end: the word that ends a sequence.
        beam_size: number of sequences kept per search.
        max_length: maximum number of words, including the end.

    Raises:
        ValueError: an argument is out of range.
    """
    for name, value in (("beam_size", beam_size), ("max_length", max_length)):
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")
    device = state[0].device
    state = tuple(part.repeat_interleave(beam_size, dim=1) for part in state)
    first = torch.arange(0, count * beam_size, beam_size, device=device)[:, None]  # each search's first
    last = torch.full((count * beam_size,), begin, device=device)
    words = last.new_zeros((count, beam_size, 0))
    is_finished = torch.zeros((count, beam_size), dtype=torch.bool, device=device)
    scores = torch.full((count, beam_size), -torch.inf, device=device)
    scores[:, 0] = 0  # all sequences begin equally, so only one counts
    for _ in range(max_length):
        log_probabilities, state = step(last, state)
        log_probabilities = log_probabilities.float().view(count, beam_size, -1)
        only_end = torch.full_like(log_probabilities[0, 0], -torch.inf)
        only_end[end] = 0
        log_probabilities = torch.where(is_finished[:, :, None], only_end, log_probabilities)
        size = log_probabilities.shape[2]
        scores, best = (scores[:, :, None] + log_probabilities).flatten(1).topk(beam_size, dim=1)
        source, word = best // size, best % size
        words = torch.cat([words.gather(1, source[:, :, None].expand_as(words)), word[:, :, None]], dim=2)
        is_finished = is_finished.gather(1, source) | (word == end)
        rows = (first + source).flatten()
        state = tuple(part.index_select(1, rows) for part in state)
        last = word.flatten()
        if bool(is_finished.all()):
            break
    winner = scores.argmax(dim=1)
    return GeneratedSequences(
        words[torch.arange(count, device=device), winner], scores.gather(1, winner[:, None])[:, 0]
    )


def sample_sequences(
    step: DecoderStep,
    state: State,
    begin: int,
    end: int,
    temperature: float,
    generators: Sequence[torch.Generator],
    max_length: int = 20,
) -> GeneratedSequences:
    """Draws each word from the softmax of log-probabilities divided by a temperature.

    At 1 sequences are drawn with the probabilities that the decoder gives; near 0 they are those of greedy decoding. A
    sequence without end is cut at `max_length` words. Every sequence has its own generator, on the CPU, so it depends
    on no other sequence and not on the device.

    Args:
        step: as in `beam_search`.
        state: state before the first word for the B sequences; each tensor has B as its second axis.
        begin: the first input word.
        end: the word that ends a sequence.
        temperature: above 0.
        generators: B generators of random numbers.
        max_length: maximum number of words, including the end.

    Returns:
        The sequences; `scores` are their log-probabilities at temperature 1.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature={temperature}: must be above 0; beam_size 1 always says the likeliest word")
    if max_length < 1:
        raise ValueError(f"max_length={max_length}: must be at least 1")
    device = state[0].device
    last = torch.full((len(generators),), begin, device=device)
    is_finished = torch.zeros(len(generators), dtype=torch.bool, device=device)
    scores = torch.zeros(len(generators), device=device)
    words: list[Tensor] = []
    for _ in range(max_length):
        log_probabilities, state = step(last, state)
        log_probabilities = log_probabilities.float()
        # The largest of log-probabilities with Gumbel noise is a draw from them (Gumbel-max trick).
        uniform = [torch.rand(log_probabilities.shape[1], generator=one, dtype=torch.float64) for one in generators]
        noise = -(-torch.stack(uniform).clamp_min(torch.finfo(torch.float64).tiny).log()).log()
        drawn = (log_probabilities.double() / temperature + noise.to(device)).argmax(dim=1)
        last = torch.where(is_finished, end, drawn)
        scores += log_probabilities.gather(1, last[:, None])[:, 0].masked_fill(is_finished, 0.0)
        words.append(last)
        is_finished = is_finished | (last == end)
        if bool(is_finished.all()):
            break
    return GeneratedSequences(torch.stack(words, dim=1), scores)
