"""`python -m pipeline fit|validate|test|predict`: Lightning's own command line on our models and data.

A run is one YAML file plus dotted flags. Any LightningModule, LightningDataModule, callback, logger and Trainer setting
can be named in it by its import path; ours also by their bare names.
"""

import warnings
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

import datamodules.video  # noqa: F401 - likewise `class_path: ShardedVideoDataModule`
import lightning_modules  # noqa: F401 - imported so that configs may say `class_path: C3D`


class TrainingCLI(LightningCLI):
    """LightningCLI that hands the class names from the data to the model, and one seed to both."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Links what nobody should have to type twice."""
        parser.link_arguments("data", "model.init_args.class_names", compute_fn=_class_names, apply_on="instantiate")
        for target in ("data.init_args.seed", "model.init_args.seed"):
            parser.link_arguments("seed_everything", target, compute_fn=_seed)


def _class_names(data: pl.LightningDataModule) -> list[str] | None:
    return getattr(data, "class_names", None)


def _seed(seed_everything: bool | int) -> int:
    return int(seed_everything)


def main(args: list[str]) -> None:
    """Runs a Lightning subcommand.

    Args:
        args: the command line from the subcommand on, such as `["fit", "--config", "pipeline/configs/demo.yaml"]`.
    """
    # `args` are this process's own words, less the program's name: nothing is given twice.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    # Raise what `pipeline.__main__` turns into one line, instead of a page of usage; take no option by its first letters.
    strict: dict[str, Any] = {"exit_on_error": False, "allow_abbrev": False}
    TrainingCLI(
        pl.LightningModule,
        pl.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
        parser_kwargs={**strict, **dict.fromkeys(TrainingCLI.subcommands(), strict)},
        args=args,
    )
