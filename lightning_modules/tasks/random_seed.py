"""Seeds of random numbers that depend on nothing but a key."""

from collections.abc import Sequence

import torch


def seed_of(key: Sequence[int]) -> int:
    """One seed from several integers; equal keys give equal seeds on every machine."""
    seed = 0
    for integer in key:
        seed = (seed * 6364136223846793005 + integer + 1442695040888963407) & (2**63 - 1)
    return seed


def seed_generators(seed: int, device: torch.device) -> None:
    """Seeds torch's default generators of the CPU and of a device, as `torch.manual_seed` does for all devices.

    That formats a stack trace at every call for each kind of device not in use, a quarter of a step's host time.
    """
    if device.type not in ("cpu", "cuda"):
        torch.manual_seed(seed)
        return
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
