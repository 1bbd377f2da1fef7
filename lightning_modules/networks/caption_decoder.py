"""Caption decoder: an LSTM that generates a caption word by word from a video's embedding, and beam search."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]
# Last words int64 (M,), state (each tensor with M as its second axis) -> log-probabilities (M, V), state after them.
DecoderStep = Callable[[Tensor, State], tuple[Tensor, State]]


class WordDecoder(nn.Module):
    """An LSTM over word embeddings, each concatenated with the video's vector; returns logits of the next word.

    Args:
        num_words: V, size of the vocabulary with its special words (begin, end, unknown).
        embedding_size: size of a word embedding.
        hidden_size: size of the LSTM's state and of the video's vector.
        num_layers: number of stacked LSTM layers.
        dropout: dropout probability of embeddings and before the output layer.
    """

    def __init__(self, num_words: int, embedding_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_words, embedding_size)
        self.cells = nn.LSTM(embedding_size + hidden_size, hidden_size, num_layers, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * hidden_size, num_words)  # a skip connection of the video's vector

    def forward(self, words: Tensor, state: State, video: Tensor) -> tuple[Tensor, State]:
        """Logits of the next words, float (M, L, V), and the state after them.

        Args:
            words: the previous words, int64 (M, L).
            state: hidden and cell state before them, each (layers, M, H).
            video: the video's vector, (M, H).
        """
        embedded = self.dropout(self.embedding(words))
        repeated = video[:, None].expand(-1, words.shape[1], -1)
        hidden, after = self.cells(torch.cat([embedded, repeated], dim=2), state)
        return self.output(self.dropout(torch.cat([hidden, repeated], dim=2))), after


class BestSequences(NamedTuple):
    """The best sequence of each of B searches.

    Attributes:
        words: int64 (B, L); after its end a sequence has only `end`.
        scores: float (B,), sums of log-probabilities, including that of the end if the sequence reached it.
    """

    words: Tensor
    scores: Tensor


def beam_search(
    step: DecoderStep, state: State, count: int, begin: int, end: int, beam_size: int = 1, max_length: int = 20
) -> BestSequences:
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
    return BestSequences(words[torch.arange(count, device=device), winner], scores.gather(1, winner[:, None])[:, 0])
