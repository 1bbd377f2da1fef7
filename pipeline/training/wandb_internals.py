"""Private attributes of Lightning's WandbLogger that are used here, as of Lightning 2.6.6; a test checks them.

The id of a run is known only after the logger is created, and cannot be in the configuration, which other runs share.
"""

from pytorch_lightning.loggers import WandbLogger


def continue_wandb_run(logger: WandbLogger, run_id: str) -> str:
    """Makes a logger that has not started yet continue a run, unless its config names a run id.

    Args:
        logger: The logger.
        run_id: The id of the run; wandb creates the run if it does not exist.

    Returns:
        The id of the logger's run.
    """
    settings = logger._wandb_init
    if settings.get("id") is None:
        settings["id"] = logger._id = run_id
    if settings.get("resume") is None:  # the config parser replaces Lightning's default by wandb's
        settings["resume"] = "allow"
    if settings.get("anonymous") is None:  # wandb removed the option, and warns even for None
        settings.pop("anonymous", None)
    return str(settings["id"])


def silence_wandb_run(logger: WandbLogger) -> None:
    """Makes wandb print warnings and errors alone for a logger that has not started yet, unless it has settings."""
    if logger._wandb_init.get("settings") is None:
        logger._wandb_init["settings"] = {"quiet": True}


def is_offline_logger(logger: WandbLogger) -> bool:
    """Whether the logger was created with `offline=True`."""
    return bool(logger._offline)
