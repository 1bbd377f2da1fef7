"""An LSTM that decodes a caption word by word, conditioned on the embedding of a video, and its beam search."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

State = tuple[Tensor, ...]
# Last words int64 (M,), state (each tensor with M as its second axis) -> log-probabilities (M, V), state after them.
Step = Callable[[Tensor, State], tuple[Tensor, State]]


class WordDecoder(nn.Module):
    """An LSTM over the embeddings of words, each beside the video's vector; then a number for every word.

    Args:
        num_words: V, with those that begin, end and stand for others.
        embedding_size: of a word.
        hidden_size: of the LSTM, and of the video's vector.
        num_layers: stacked.
        dropout: on embeddings and before the words.
    """

    def __init__(self, num_words: int, embedding_size: int, hidden_size: int, num_layers: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_words, embedding_size)
        self.cells = nn.LSTM(embedding_size + hidden_size, hidden_size, num_layers, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * hidden_size, num_words)  # the vector is seen here too: a short way to learn by

    def forward(self, words: Tensor, state: State, seen: Tensor) -> tuple[Tensor, State]:
        """Logits of the next words: int64 (M, L) to float (M, L, V), and the state after them.

        Args:
            words: the ones before.
            state: hidden state and cell before them, each (layers, M, H).
            seen: the video's vector, (M, H).
        """
        embedded = self.dropout(self.embedding(words))
        beside = seen[:, None].expand(-1, words.shape[1], -1)
        hidden, after = self.cells(torch.cat([embedded, beside], dim=2), state)
        return self.output(self.dropout(torch.cat([hidden, beside], dim=2))), after


class Found(NamedTuple):
    """The best sequence of each of B searches.

    Attributes:
        words: int64 (B, L); after its end a sequence has `end` only.
        scores: float (B,), sums of the log-probabilities, of the end too where the sequence came to it.
    """

    words: Tensor
    scores: Tensor


def beam_search(
    step: Step, state: State, count: int, begin: int, end: int, beam_size: int = 1, max_length: int = 20
) -> Found:
    """Keeps the `beam_size` most probable beginnings at each step; with 1 it takes the best word each time.

    A sequence that has ended stays in the beam, with its score, and is held against the others to the end. One that
    has `max_length` words and no end is cut there. Scores are not divided by the length.

    Args:
        step: what the network says after the words so far.
        state: of the network before the first word, for the B searches; each tensor with B as its second axis.
        count: B.
        begin: what the network is given first.
        end: what ends a sequence.
        beam_size: sequences kept for each search.
        max_length: words at most, the end being one.

    Raises:
        ValueError: a number out of range.
    """
    for name, value in (("beam_size", beam_size), ("max_length", max_length)):
        if value < 1:
            raise ValueError(f"{name}={value}: must be at least 1")
    device = state[0].device
    state = tuple(part.repeat_interleave(beam_size, dim=1) for part in state)
    first = torch.arange(0, count * beam_size, beam_size, device=device)[:, None]  # of each search, in the flat beam
    last = torch.full((count * beam_size,), begin, device=device)
    words = last.new_zeros((count, beam_size, 0))
    ended = torch.zeros((count, beam_size), dtype=torch.bool, device=device)
    scores = torch.full((count, beam_size), -torch.inf, device=device)
    scores[:, 0] = 0  # all beams begin alike: one of them is enough
    for _ in range(max_length):
        said, state = step(last, state)
        said = said.float().view(count, beam_size, -1)
        only_end = torch.full_like(said[0, 0], -torch.inf)
        only_end[end] = 0
        said = torch.where(ended[:, :, None], only_end, said)
        size = said.shape[2]
        scores, best = (scores[:, :, None] + said).flatten(1).topk(beam_size, dim=1)
        source, word = best // size, best % size
        words = torch.cat([words.gather(1, source[:, :, None].expand_as(words)), word[:, :, None]], dim=2)
        ended = ended.gather(1, source) | (word == end)
        rows = (first + source).flatten()
        state = tuple(part.index_select(1, rows) for part in state)
        last = word.flatten()
        if bool(ended.all()):
            break
    winner = scores.argmax(dim=1)
    return Found(words[torch.arange(count, device=device), winner], scores.gather(1, winner[:, None])[:, 0])
