"""Outcome of a run that ends early: what happened, its newest checkpoint, and the command line that resumes it."""

import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_modules.tasks.lightning_internals import last_saved
from pipeline.checkpoints.preemption import PreemptionExit
from pipeline.checkpoints.run_checkpoint import RunCheckpoint
from pipeline.cli.errors import exit_status, explain, was_interrupted
from pipeline.processes.outcome import OutcomeKind, ProcessOutcome, attach_outcome


def add_resume_hint(error: BaseException, trainer: pl.Trainer, arguments: Sequence[str]) -> None:
    """Attaches the outcome of the run to the exception that ended training.

    Args:
        error: the exception.
        trainer: the trainer of the run.
        arguments: the command line from `fit` on.
    """
    checkpoint = newest_checkpoint(trainer)
    message = f"{_describe_error(error)}; stopped at step {trainer.global_step} in epoch {trainer.current_epoch}"
    kind: OutcomeKind = "stopped" if was_interrupted(error) or isinstance(error, PreemptionExit) else "failed"
    if checkpoint is None:
        outcome = ProcessOutcome(kind, f"{message}; there is no checkpoint yet", exit_status(error))
    else:
        outcome = ProcessOutcome(
            kind, message, exit_status(error), str(checkpoint), resume_command(arguments, checkpoint)
        )
    attach_outcome(error, outcome)


def newest_checkpoint(trainer: pl.Trainer) -> Path | None:
    """Returns the newest whole checkpoint that this run's callbacks have saved, or None."""
    found: list[Path] = []
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, RunCheckpoint):
            with suppress(OSError, ValueError):  # no folder, or all checkpoints are damaged
                newest, _ = callback.store.find_newest_intact()
                found += [] if newest is None else [callback.store.fetch(newest)]
        elif isinstance(callback, ModelCheckpoint) and (saved := last_saved(callback)) is not None:
            found.append(saved)
    existing = [path for path in found if path.exists()]
    return max(existing, key=lambda path: path.stat().st_mtime, default=None)


def resume_command(arguments: Sequence[str], checkpoint: Path) -> str:
    """Returns the command line that resumes from a checkpoint: the original one with another `--ckpt_path`."""
    arguments_kept, is_value = [], False
    for word in arguments:
        if not is_value and not word.startswith("--ckpt_path="):
            is_value = word == "--ckpt_path"
            arguments_kept += [] if is_value else [word]
        else:
            is_value = False
    launcher = ["python"]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        launcher = ["torchrun", "--nproc-per-node", os.environ["LOCAL_WORLD_SIZE"]]
        nodes = os.environ.get("GROUP_WORLD_SIZE", "1")
        launcher += ["--nnodes", nodes] if nodes != "1" else []
    return shlex.join([*launcher, "-m", "pipeline", *arguments_kept, "--ckpt_path", str(checkpoint)])


def _describe_error(error: BaseException) -> str:
    if was_interrupted(error):
        return "interrupted"
    if isinstance(error, PreemptionExit):
        return "SIGTERM: the run was asked to leave"
    if isinstance(error, (ValueError, OSError, ImportError)):
        return explain(error)
    first = next((line for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {first.strip()}"
