"""Generation of sequences by a decoder of words: beam search, greedy decoding, and sampling with a temperature."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.device_transfer import HostFlag, move_to_device

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
    step: DecoderStep,
    state: State,
    count: int,
    begin: int,
    end: int,
    beam_size: int = 1,
    max_length: int = 20,
    late: bool | None = None,
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
        late: compute a word while asking whether all sequences ended before it; the same result; default: on GPUs.

    Raises:
        ValueError: an argument is out of range.
    """
    for name, value in (("beam_size", beam_size), ("max_length", max_length)):
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")
    device = state[0].device
    last = torch.full((count * beam_size,), begin, device=device)
    scores = torch.full((count, beam_size), -torch.inf, device=device)
    scores[:, 0].fill_(0)  # all sequences begin equally, so only one counts
    beams = _Generation(
        words=last.new_zeros((count, beam_size, 0)),
        scores=scores,
        is_finished=torch.zeros((count, beam_size), dtype=torch.bool, device=device),
        last=last,
        state=tuple(part.repeat_interleave(beam_size, dim=1) for part in state),
    )
    beams = _generate(partial(_extend_beams, step, end), beams, max_length, _waits(device) if late is None else late)
    winner = beams.scores.argmax(dim=1)
    return GeneratedSequences(
        beams.words[torch.arange(count, device=device), winner], beams.scores.gather(1, winner[:, None])[:, 0]
    )


def _extend_beams(step: DecoderStep, end: int, beams: "_Generation") -> "_Generation":
    """The most probable sequences that are one word longer."""
    (count, beam_size), device = beams.scores.shape, beams.scores.device
    log_probabilities, state = step(beams.last, beams.state)
    log_probabilities = log_probabilities.float().view(count, beam_size, -1)
    only_end = torch.full_like(log_probabilities[0, 0], -torch.inf)
    only_end[end].fill_(0)
    log_probabilities = torch.where(beams.is_finished[:, :, None], only_end, log_probabilities)
    size = log_probabilities.shape[2]
    scores, best = (beams.scores[:, :, None] + log_probabilities).flatten(1).topk(beam_size, dim=1)
    source, word = best // size, best % size
    words = beams.words.gather(1, source[:, :, None].expand_as(beams.words))
    first = torch.arange(0, count * beam_size, beam_size, device=device)[:, None]  # each search's first
    rows = (first + source).flatten()
    return _Generation(
        words=torch.cat([words, word[:, :, None]], dim=2),
        scores=scores,
        is_finished=beams.is_finished.gather(1, source) | (word == end),
        last=word.flatten(),
        state=tuple(part.index_select(1, rows) for part in state),
    )


def sample_sequences(
    step: DecoderStep,
    state: State,
    begin: int,
    end: int,
    temperature: float,
    generators: Sequence[torch.Generator],
    max_length: int = 20,
    late: bool | None = None,
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
        late: compute a word while asking whether all sequences ended before it; the same result; default: on GPUs.

    Returns:
        The sequences; `scores` are their log-probabilities at temperature 1.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 < temperature < float("inf"):
        raise ValueError(f"temperature={temperature}: must be above 0; beam_size 1 always says the likeliest word")
    if max_length < 1:
        raise ValueError(f"max_length={max_length}: must be at least 1")
    count, device = len(generators), state[0].device
    last = torch.full((count,), begin, device=device)
    sequences = _Generation(
        words=last.new_zeros((count, 0)),
        scores=torch.zeros(count, device=device),
        is_finished=torch.zeros(count, dtype=torch.bool, device=device),
        last=last,
        state=state,
    )
    extend = partial(_draw_words, step, end, temperature, generators)
    sequences = _generate(extend, sequences, max_length, _waits(device) if late is None else late)
    return GeneratedSequences(sequences.words, sequences.scores)


def _draw_words(
    step: DecoderStep,
    end: int,
    temperature: float,
    generators: Sequence[torch.Generator],
    sequences: "_Generation",
) -> "_Generation":
    """Sequences with one drawn word more."""
    log_probabilities, state = step(sequences.last, sequences.state)
    log_probabilities = log_probabilities.float()
    # The largest of log-probabilities with Gumbel noise is a draw from them (Gumbel-max trick).
    uniform = [torch.rand(log_probabilities.shape[1], generator=one, dtype=torch.float64) for one in generators]
    noise = -(-torch.stack(uniform).clamp_min(torch.finfo(torch.float64).tiny).log()).log()
    noise = move_to_device(noise, log_probabilities.device)
    drawn = (log_probabilities.double() / temperature + noise).argmax(dim=1)
    last = torch.where(sequences.is_finished, end, drawn)
    gained = log_probabilities.gather(1, last[:, None])[:, 0].masked_fill(sequences.is_finished, 0.0)
    return _Generation(
        words=torch.cat([sequences.words, last[:, None]], dim=1),
        scores=sequences.scores + gained,
        is_finished=sequences.is_finished | (last == end),
        last=last,
        state=state,
    )


class _Generation(NamedTuple):
    """Sequences that are being generated, one or several of each of B videos.

    Attributes:
        words: int64 (B, L) or (B, beam, L), the words so far.
        scores: float, sums of log-probabilities, as `words` without L.
        is_finished: bool, whether the sequences have ended, as `scores`.
        last: int64 (M,), the last word of all sequences.
        state: state after it.
    """

    words: Tensor
    scores: Tensor
    is_finished: Tensor
    last: Tensor
    state: State


def _generate(
    extend: Callable[[_Generation], _Generation], generation: _Generation, max_length: int, late: bool
) -> _Generation:
    """Adds words until all sequences have ended, `max_length` at most.

    With `late` the host asks whether they have when the next word is launched already, which is then one too many and
    left out of the result: a device on which work is queued never runs dry.
    """
    has_ended: HostFlag | None = None
    for _ in range(max_length):
        longer = extend(generation)
        if has_ended is not None and has_ended.read():
            break
        generation, has_ended = longer, HostFlag(longer.is_finished.all())
        if not late and has_ended.read():
            break
    return generation


def _waits(device: torch.device) -> bool:
    """Whether the host waits for a device where it reads what that computes."""
    return device.type != "cpu"
