"""Teacher forcing: inputs and targets of a decoder that is trained on captions."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import torch
from torch import Tensor

from datamodules.device_transfer import move_to_device
from lightning_modules.captions.vocabulary import BEGIN, END


class TeacherForcing(NamedTuple):
    """What a decoder is given, and which words it has to predict, for M captions of at most L words with their end.

    Attributes:
        inputs: int64 (M, L), `BEGIN`, then the words, then `END`.
        words: int64 (words,), the words of all captions, each caption with its end.
        places: int64 (words,), the place of each of them among the M L outputs.
    """

    inputs: Tensor
    words: Tensor
    places: Tensor

    def to(self, device: torch.device) -> Self:
        """The same on a device, for which the host does not wait."""
        return type(self)(*(move_to_device(part, device) for part in self))


def teacher_forcing(captions: Sequence[Sequence[int]], max_length: int) -> TeacherForcing:
    """Inputs and target words of captions.

    Args:
        captions: the words of M captions as numbers, without beginning and end.
        max_length: maximum number of words, including the end; longer captions are cut.
    """
    cut = [list(caption[: max_length - 1]) for caption in captions]
    length = max(map(len, cut)) + 1
    inputs = [[BEGIN, *numbers, *[END] * (length - 1 - len(numbers))] for numbers in cut]
    words = [word for numbers in cut for word in (*numbers, END)]
    places = [length * row + place for row, numbers in enumerate(cut) for place in range(len(numbers) + 1)]
    return TeacherForcing(torch.tensor(inputs), torch.tensor(words), torch.tensor(places))
