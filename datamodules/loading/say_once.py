"""What is to be known of a run, but not of every loader of it."""

from functools import cache

from pytorch_lightning.utilities import rank_zero_info


@cache
def log_once(message: str) -> None:
    """Once in each process, and only on the first rank."""
    rank_zero_info(message)
