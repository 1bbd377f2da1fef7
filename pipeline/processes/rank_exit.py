"""The exit of a rank: DDP's wrapper goes before the process group does; a failed rank ends those that it started."""

import contextlib
import gc
import subprocess

import pytorch_lightning as pl

from lightning_modules.tasks.lightning_internals import take_over_launched_ranks

_KILL_WAIT_S = 10.0  # wait for a killed rank to exit


def drop_ddp_wrapper(trainer: pl.Trainer) -> None:
    """Drops the wrapped model while the process group is still there: after it, gloo aborts one exit in ten.

    Args:
        trainer: whose work is done.
    """
    trainer.strategy.model = None
    gc.collect()


def end_other_ranks(launcher: object) -> None:
    """Kills the ranks that this process has started, which wait in a collective that will never complete.

    Uses SIGKILL: a rank in an NCCL collective never returns to Python, where a handler of SIGTERM could run.
    """
    ranks = take_over_launched_ranks(launcher)
    for rank in ranks:
        rank.kill()
    for rank in ranks:
        with contextlib.suppress(subprocess.TimeoutExpired):  # a rank in uninterruptible disk sleep exits later
            rank.wait(_KILL_WAIT_S)
