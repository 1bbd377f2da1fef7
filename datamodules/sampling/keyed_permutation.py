"""Keyed permutations: shuffles that are computed for any position from a key, without an array."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]

_ROUNDS = 8
_MASK_64 = (1 << 64) - 1


def _mix(value: Words) -> Words:
    """Mixes the bits of 64-bit words (the finalizer of SplitMix64; Steele, Lea, Flood 2014, figure 12)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def hash_integers(*integers: int | Integers | Words) -> Words:
    """64-bit hashes of sequences of integers: uint64 (M,), of the integers at each position of arrays (M,).

    Args:
        *integers: the sequence; a number is the same at every position, and M is 1 if there are only numbers.
    """
    state = np.zeros(1, dtype=np.uint64)
    for integer in integers:
        state = _append(state, integer)
    return state


def _append(state: Words, integer: int | Integers | Words) -> Words:
    """The hash of a sequence that is one integer longer than the sequence with the hash `state`."""
    word = np.uint64(integer & _MASK_64) if isinstance(integer, int) else integer.astype(np.uint64)
    return _mix(state * np.uint64(0x9E3779B97F4A7C15) + word + np.uint64(1))


def _round_keys(state: Words) -> list[Words]:
    return [_append(state, number) for number in range(_ROUNDS)]


class KeyedPermutation:
    """A permutation of range(size) that is computed, not stored: a Feistel network with cycle walking.

    Words of `bits` bits, at most 2 * size of them, are permuted by rounds that xor one half with a hash of the other;
    a word that falls outside range(size) is permuted again until it falls inside (Black and Rogaway 2002, "Ciphers
    with arbitrary finite domains"). Time and memory depend on the number of requested positions, not on `size`.
    """

    def __init__(self, size: int, *key: int) -> None:
        if size < 0:
            raise ValueError(f"size={size}: must be at least 0")
        self.size = size
        bits = max(2, (size - 1).bit_length())
        self._low_bits = np.uint64(bits // 2)
        self._high_bits = np.uint64(bits - bits // 2)
        self._round_keys = [key[0] for key in _round_keys(hash_integers(*key, size))]

    def __call__(self, positions: Integers) -> Integers:
        """The numbers at the given positions: int64 in [0, size), same shape."""
        words = np.asarray(positions).astype(np.uint64)
        if words.size and (int(words.max()) >= self.size or int(np.min(positions)) < 0):
            raise IndexError(f"positions must be in [0, {self.size})")
        words = self._permute(words)
        outside = np.flatnonzero(words >= self.size)
        while outside.size:
            words[outside] = self._permute(words[outside])
            outside = outside[words[outside] >= self.size]
        return words.astype(np.int64)

    def _permute(self, words: Words) -> Words:
        return _feistel(words, self._low_bits, self._high_bits, self._round_keys)


def permute_each(positions: Integers, sizes: Integers, *keys: int | Integers) -> Integers:
    """The number at one position of each of M keyed permutations: int64 (M,) in [0, sizes).

    Args:
        positions: int64 (M,), the position in each permutation, in [0, sizes).
        sizes: int64 (M,), the size of each permutation, in [1, 2^53].
        *keys: the integers that key the permutations, each a number or int64 (M,).
    """
    if positions.size and not ((positions >= 0) & (positions < sizes)).all():
        raise IndexError("positions must be in [0, sizes)")
    bits = np.maximum(2, np.frexp((sizes - 1).astype(np.float64))[1]).astype(np.uint64)  # bit lengths, exact below 2^53
    low_bits = bits // np.uint64(2)
    high_bits, round_keys = bits - low_bits, _round_keys(hash_integers(*keys, sizes))
    numbers = _feistel(positions.astype(np.uint64), low_bits, high_bits, round_keys).astype(np.int64)
    outside = np.flatnonzero(numbers >= sizes)
    while outside.size:
        keys_outside = [key[outside] for key in round_keys]
        words = numbers[outside].astype(np.uint64)
        numbers[outside] = _feistel(words, low_bits[outside], high_bits[outside], keys_outside).astype(np.int64)
        outside = outside[numbers[outside] >= sizes[outside]]
    return numbers


def _feistel(
    words: Words, low_bits: np.uint64 | Words, high_bits: np.uint64 | Words, round_keys: Sequence[np.uint64 | Words]
) -> Words:
    """Permutes words of `low_bits + high_bits` bits by a Feistel network."""
    one = np.uint64(1)
    low_mask, high_mask = (one << low_bits) - one, (one << high_bits) - one
    high, low = words >> low_bits, words & low_mask
    for number, key in enumerate(round_keys):
        if number % 2 == 0:
            high = high ^ (_mix(low ^ key) & high_mask)
        else:
            low = low ^ (_mix(high ^ key) & low_mask)
    return (high << low_bits) | low
