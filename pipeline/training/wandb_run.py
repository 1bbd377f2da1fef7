"""Weights & Biases: one run for all ranks and all restarts, with the whole configuration and no secrets."""

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
from pipeline.cli.terminal import say
from pipeline.training.secret_patterns import without_secrets
from pipeline.training.wandb_internals import continue_wandb_run, is_offline_logger

_OFFLINE = ("offline", "dryrun")


def go_offline_without_key() -> None:
    """Sets WANDB_MODE to offline where nobody has set it and there is no key, so that nobody is asked for one."""
    if "WANDB_MODE" not in os.environ and not has_key():
        os.environ["WANDB_MODE"] = "offline"


def has_key() -> bool:
    """Whether wandb would find a key: in the environment, or in ~/.netrc."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("://")[-1].split("/")[0].split(":")[0]
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError, RuntimeError):
        return False


def id_of_run(checkpoint: str | None) -> str:
    """The id of a run: WANDB_RUN_ID where that is set, else that of the checkpoint it goes on from, else a new one."""
    given = os.environ.get("WANDB_RUN_ID")
    return given or (id_in_checkpoint(checkpoint) if checkpoint else None) or new_id()


def new_id() -> str:
    """Eight letters and digits, as wandb makes them."""
    return "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(8))


def id_in_checkpoint(path: str) -> str | None:
    """The id that a checkpoint of `fit` holds; None where it has none, or cannot be read as plain data."""
    if not Path(path).is_file():
        return None
    try:
        content = load_plain(path, path, mmap=True, verify=False)
        return str(content["callbacks"]["RunMonitor"]["run_id"]) or None
    except (ValueError, OSError, LookupError, TypeError):  # whether it is a checkpoint at all is not asked here
        return None


def continue_run(loggers: Sequence[Logger], run_id: str) -> str:
    """Lets every WandbLogger go on with a run, unless its config names one; of an offline one wandb itself says little.

    Its own last lines would send one attempt where `sync_command` sends all of them.

    Returns:
        The id of the run.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            run_id = continue_wandb_run(logger, run_id)
            if _is_offline(logger):
                os.environ.setdefault("WANDB_QUIET", "true")
    return run_id


def log_configuration(loggers: Sequence[Logger], configuration: Mapping[str, Any]) -> None:
    """Gives every WandbLogger the configuration of the run, without secrets; on the first rank."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_hyperparams(without_secrets(configuration))


def sync_command(loggers: Sequence[Logger]) -> str | None:
    """What sends an offline run to wandb, all its attempts as one; None where none is offline."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and _is_offline(logger):
            return f"wandb sync {Path(logger.save_dir or '.', 'wandb')}/offline-run-*-{logger.version}"
    return None


def say_how_to_send(loggers: Sequence[Logger]) -> None:
    """Tells a person, once, how an offline run is sent."""
    command = sync_command(loggers)
    if command is not None:
        rank_zero_info(f"wandb was offline; to send the run with all its attempts: {command}")


def end_early(loggers: Sequence[Logger], status: int) -> None:
    """Ends the wandb runs of training that ends before its time, so that what wandb says comes before the last line.

    Args:
        loggers: of the run.
        status: that this process will end with; wandb takes all but 0 for a failure.
    """
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            import wandb  # here, as it takes a second that other runs save

            try:
                if wandb.run is not None:
                    wandb.run.finish(exit_code=status)
            except Exception as error:  # of wandb and the network; the error of the run is the one to tell
                say(f"warning: wandb could not end its run: {error}", sys.stderr)
    say_how_to_send(loggers)


def _is_offline(logger: WandbLogger) -> bool:
    return is_offline_logger(logger) or os.environ.get("WANDB_MODE") in _OFFLINE
