"""Seeds of random numbers that depend on nothing but a key."""

from collections.abc import Sequence


def seed_of(key: Sequence[int]) -> int:
    """One seed from several integers; equal keys give equal seeds on every machine."""
    seed = 0
    for integer in key:
        seed = (seed * 6364136223846793005 + integer + 1442695040888963407) & (2**63 - 1)
    return seed
