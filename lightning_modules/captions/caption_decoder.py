"""Caption decoder: an LSTM that generates a caption word by word from a video's embedding."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.captions.caption_search import State


class WordDecoder(nn.Module):
    """An LSTM over word embeddings, each concatenated with the video's vector; returns logits of the next word.

    Args:
        num_words: V, size of the vocabulary with its special words (begin, end, unknown).
        embedding_size: E, size of a word embedding.
        hidden_size: H, size of the LSTM's state and of the video's vector.
        num_layers: number of stacked LSTM layers.
        dropout: dropout probability of embeddings and before the output layer.
        tie_embedding: the output layer projects state and vector to E and multiplies by the transposed embedding matrix
            (Press and Wolf: "Using the Output Embedding to Improve Language Models", EACL 2017), plus a bias.
    """

    def __init__(
        self,
        num_words: int,
        embedding_size: int,
        hidden_size: int,
        num_layers: int,
        dropout: float,
        tie_embedding: bool = False,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_words, embedding_size)
        self.cells = nn.LSTM(embedding_size + hidden_size, hidden_size, num_layers, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        # The video's vector goes to the output past the LSTM too.
        self.output = nn.Linear(2 * hidden_size, embedding_size if tie_embedding else num_words)
        self.word_bias = nn.Parameter(torch.zeros(num_words)) if tie_embedding else None
        if tie_embedding:  # the standard deviation 1 of nn.Embedding would give logits that grow with E
            nn.init.normal_(self.embedding.weight, std=embedding_size**-0.5)

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
        output = self.output(self.dropout(torch.cat([hidden, repeated], dim=2)))
        if self.word_bias is not None:
            output = F.linear(output, self.embedding.weight, self.word_bias)
        return output, after
