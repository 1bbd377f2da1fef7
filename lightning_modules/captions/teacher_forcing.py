"""Teacher forcing: inputs and targets of a decoder that is trained on captions."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_modules.captions.vocabulary import BEGIN, END

IGNORED_TARGET = -1  # target that the loss ignores


def teacher_forcing(
    captions: Sequence[Sequence[int]], max_length: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Input and target words of captions: each int64 (M, L), L the longest with its end.

    Inputs are `BEGIN`, then the words; targets are the words, then `END`. After its end a caption's inputs are `END`,
    and its targets are ignored.

    Args:
        captions: the words of M captions as numbers, without beginning and end.
        max_length: maximum number of words, including the end; longer captions are cut.
        device: device of the tensors.
    """
    cut = [caption[: max_length - 1] for caption in captions]
    inputs = torch.full((len(cut), max(map(len, cut)) + 1), END, device=device)
    targets = torch.full_like(inputs, IGNORED_TARGET)
    for row, numbers in enumerate(cut):
        inputs[row, : len(numbers) + 1] = torch.tensor([BEGIN, *numbers])
        targets[row, : len(numbers) + 1] = torch.tensor([*numbers, END])
    return inputs, targets
