"""What says words: an LSTM that begins with a state of a video."""

import torch
from torch import Tensor, nn

from lightning_modules.networks.beam_search import State


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
