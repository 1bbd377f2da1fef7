"""What is used of Lightning's WandbLogger that is not public; read in Lightning 2.6.6, where a test looks at it again.

The id of a run is known only when the logger was made, and must not be in the configuration, which other runs share.
"""

from pytorch_lightning.loggers import WandbLogger


def continue_wandb_run(logger: WandbLogger, run_id: str) -> str:
    """Lets a logger that has not begun go on with a run, unless its config names one.

    Args:
        logger: The logger.
        run_id: Of the run; wandb makes it where there is none of that id.

    Returns:
        The id of the logger's run.
    """
    settings = logger._wandb_init
    if settings.get("id") is None:
        settings["id"] = logger._id = run_id
    if settings.get("resume") is None:  # a config's parser has put wandb's default over Lightning's
        settings["resume"] = "allow"
    if settings.get("anonymous") is None:  # wandb has it no more, and says so even of None
        settings.pop("anonymous", None)
    return str(settings["id"])


def is_offline_logger(logger: WandbLogger) -> bool:
    """Whether the logger was made with `offline=True`."""
    return bool(logger._offline)
