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
    strict = _parser_settings()
    _cli(args, run=True, parser_kwargs={**strict, **dict.fromkeys(TrainingCLI.subcommands(), strict)})


def build(args: list[str]) -> TrainingCLI:
    """Makes the trainer, the model and the data module of a config, and runs nothing.

    Args:
        args: the options, without a subcommand, such as `["--config", "pipeline/configs/demo.yaml"]`.

    Returns:
        Something with the attributes `trainer`, `model` and `datamodule`.
    """
    return _cli(args, run=False, parser_kwargs=_parser_settings())


def _parser_settings() -> dict[str, Any]:
    # Raise what `pipeline.__main__` turns into one line, instead of a page of usage; no option by its first letters.
    return {"exit_on_error": False, "allow_abbrev": False}


def _cli(args: list[str], run: bool, parser_kwargs: dict[str, Any]) -> TrainingCLI:
    # `args` are this process's own words, less the program's name: nothing is given twice.
    warnings.filterwarnings("ignore", message="LightningCLI's args parameter")
    return TrainingCLI(
        pl.LightningModule,
        pl.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_kwargs={"overwrite": True},
        seed_everything_default=0,
        parser_kwargs=parser_kwargs,
        args=args,
        run=run,
    )
