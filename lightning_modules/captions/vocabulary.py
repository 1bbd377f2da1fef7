"""Vocabulary: maps the words or characters of captions to numbers and back."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal, Self

from torch import Tensor

Units = Literal["words", "characters"]

BEGIN, END, UNKNOWN = range(3)
_SPECIAL_UNITS = ("<begin>", "<end>", "<unknown>")
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


class Vocabulary:
    """Numbering of units: 0 begins a caption, 1 ends it, 2 is an unknown unit, the known units follow.

    Args:
        tokens: the known units, without duplicates.
        units: `words`, in lower case, without punctuation; or `characters`, unchanged.

    Raises:
        ValueError: no unit, or a duplicate.
    """

    def __init__(self, tokens: Sequence[str], units: Units = "words") -> None:
        if units not in ("words", "characters"):
            raise ValueError(f"units={units!r}: must be words or characters")
        if not tokens or len(set(tokens)) != len(tokens):
            raise ValueError(f"vocabulary of {len(tokens)} {units}: must have at least one, and each once")
        self.tokens = list(tokens)
        self.units = units
        self._numbers = {unit: number for number, unit in enumerate(self.tokens, len(_SPECIAL_UNITS))}

    @classmethod
    def from_captions(cls, captions: Iterable[str], units: Units = "words", min_count: int = 1) -> Self:
        """The vocabulary of units that occur at least `min_count` times: most frequent first, then alphabetically."""
        if min_count < 1:
            raise ValueError(f"min_count={min_count}: must be at least 1")
        counts = Counter(unit for caption in captions for unit in split_caption(caption, units))
        kept = sorted((unit for unit, count in counts.items() if count >= min_count), key=lambda u: (-counts[u], u))
        if not kept:
            raise ValueError(f"min_count={min_count}: none of {len(counts)} different {units} is there so often")
        return cls(kept, units)

    def __len__(self) -> int:
        return len(_SPECIAL_UNITS) + len(self.tokens)

    @property
    def first_number(self) -> int:
        """The number of the first known unit; the special ones are below."""
        return len(_SPECIAL_UNITS)

    def encode(self, caption: str) -> list[int]:
        """The numbers of a caption's units, without beginning and end."""
        return [self._numbers.get(unit, UNKNOWN) for unit in split_caption(caption, self.units)]

    def decode(self, numbers: Sequence[int]) -> str:
        """The caption up to its end; unknown units are shown as <unknown>."""
        units = []
        for number in numbers:
            if number == END:
                break
            if number != BEGIN:
                units.append(
                    _SPECIAL_UNITS[number]
                    if number < len(_SPECIAL_UNITS)
                    else self.tokens[number - len(_SPECIAL_UNITS)]
                )
        return (" " if self.units == "words" else "").join(units)

    def decode_all(self, words: Tensor) -> list[str]:
        """The captions of int64 (B, L), each as `decode`."""
        return [self.decode(numbers) for numbers in words.tolist()]


def split_caption(caption: str, units: Units) -> list[str]:
    """The units of a caption.

    >>> split_caption("A dog's ball, rolling.", "words")
    ['a', "dog's", 'ball', 'rolling']
    """
    return _WORD.findall(caption.lower()) if units == "words" else list(" ".join(caption.split()))


def normalize_caption(caption: str, units: Units) -> str:
    """A caption normalized by encoding and decoding it with a complete vocabulary, to compare generated ones with."""
    return (" " if units == "words" else "").join(split_caption(caption, units))
