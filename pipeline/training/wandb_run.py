"""Weights & Biases: one run for all ranks and restarts, with the full configuration but without secrets."""

import netrc
import os
import secrets
import string
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_info

from lightning_modules.weights.safe_load import load_plain
from lightning_modules.weights.sharded_checkpoint import content_file
from pipeline.cli.terminal import print_text
from pipeline.training.secret_patterns import without_secrets
from pipeline.training.wandb_internals import continue_wandb_run, is_offline_logger, silence_wandb_run

_OFFLINE = ("offline", "dryrun")


def go_offline_without_key() -> None:
    """Sets WANDB_MODE to offline if it is unset and there is no API key, so that wandb does not ask for one."""
    if "WANDB_MODE" not in os.environ and not has_api_key():
        os.environ["WANDB_MODE"] = "offline"


def has_api_key() -> bool:
    """Whether wandb would find an API key, in the environment or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].split("/")[0].split(":")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError, RuntimeError):
        return False


def choose_run_id(checkpoint: str | None) -> str:
    """Returns the id of a run: WANDB_RUN_ID if set, else the id in the checkpoint to resume from, else new."""
    configured = os.environ.get("WANDB_RUN_ID")
    return configured or (read_run_id(checkpoint) if checkpoint else None) or make_run_id()


def make_run_id() -> str:
    """Returns a random id of eight letters and digits, like those of wandb."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def read_run_id(path: str) -> str | None:
    """Returns the run id in a checkpoint of `fit`; None if it has none or cannot be read as plain data."""
    file = content_file(path)
    if not file.is_file():
        return None
    try:
        content = load_plain(file, path, mmap=True, verify=False)
        return str(content["callbacks"]["RunMonitor"]["run_id"]) or None
    except (ValueError, OSError, LookupError, TypeError):  # checkpoints are validated elsewhere
        return None


def continue_run(loggers: Sequence[Logger], run_id: str) -> str:
    """Makes every WandbLogger continue a run, unless its config names a run id, and makes wandb quiet when offline.

    The command that wandb prints at the end would upload a single attempt; `sync_command` uploads all of them.

    Returns:
        The id of the run.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            run_id = continue_wandb_run(logger, run_id)
            if _is_offline(logger) and "WANDB_QUIET" not in os.environ:  # wandb may have read its variables by now
                silence_wandb_run(logger)
    return run_id


def log_configuration(loggers: Sequence[Logger], configuration: Mapping[str, Any]) -> None:
    """Logs the configuration of the run, without secrets, to every WandbLogger; called on rank 0."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_hyperparams(without_secrets(configuration))


def sync_command(loggers: Sequence[Logger]) -> str | None:
    """Returns the command that uploads an offline run with all its attempts; None if no logger is offline."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and _is_offline(logger):
            return f"wandb sync {Path(logger.save_dir or '.', 'wandb')}/offline-run-*-{logger.version}"
    return None


def print_sync_command(loggers: Sequence[Logger]) -> None:
    """Prints, on rank 0, the command that uploads an offline run."""
    command = sync_command(loggers)
    if command is not None:
        rank_zero_info(f"wandb was offline; to send the run with all its attempts: {command}")


def finish_wandb_runs(loggers: Sequence[Logger], status: int) -> None:
    """Finishes the wandb run of training that ends early, so that wandb's output comes before the last line.

    Args:
        loggers: the loggers of the run.
        status: exit status of this process; wandb marks the run as failed unless it is 0.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb  # imported here, because it takes a second

            try:
                if wandb.run is not None:
                    wandb.run.finish(exit_code=status)
            except Exception as error:  # of wandb or the network; it must not hide the run's own error
                print_text(f"warning: wandb could not end its run: {error}", sys.stderr)
    print_sync_command(loggers)


def _is_offline(logger: WandbLogger) -> bool:
    return is_offline_logger(logger) or os.environ.get("WANDB_MODE") in _OFFLINE
