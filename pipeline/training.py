"""`python -m pipeline fit|validate|test|predict`: Lightning's own command line on our models and data.

A run is one YAML file plus dotted flags. Any LightningModule, LightningDataModule, callback, logger and Trainer setting
can be named in it by its import path; ours also by their bare names.
"""

import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

import datamodules.video  # noqa: F401 - likewise `class_path: ShardedVideoDataModule`
import lightning_modules  # noqa: F401 - imported so that configs may say `class_path: C3D`


class TrainingCLI(LightningCLI):
    """LightningCLI that hands the class names from the data to the model, and one seed to both."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Links what nobody should have to type twice."""
        parser.link_arguments("data", "model.init_args.class_names", compute_fn=_class_names, apply_on="instantiate")
        for target in ("data.init_args.seed", "model.init_args.seed"):
            parser.link_arguments("seed_everything", target, compute_fn=_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Also refuses what is no checkpoint, before anything is started or written."""
        super().parse_arguments(parser, args)
        options = self.config[self.config["subcommand"]] if "subcommand" in self.config else {}
        path = options.get("ckpt_path")
        if path is not None and Path(path).is_file():
            _refuse_what_is_no_checkpoint(path)


def _refuse_what_is_no_checkpoint(path: str) -> None:
    content: object = None
    if zipfile.is_zipfile(path):
        try:
            content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
        except Exception:  # torch raises many kinds; a user's own module may have saved more than plain data
            return
    if not isinstance(content, dict) or "pytorch-lightning_version" not in content:
        raise ValueError(f"ckpt_path={path!r} is not a checkpoint of Lightning: give one that `fit` wrote")


def _class_names(data: pl.LightningDataModule) -> list[str] | None:
    return getattr(data, "class_names", None)


def _seed(seed_everything: bool | int) -> int:
    return int(seed_everything)


def main(args: list[str]) -> None:
    """Runs a Lightning subcommand.

    Args:
        args: the command line from the subcommand on, such as `["fit", "--config", "pipeline/configs/demo.yaml"]`.
    """
    strict = parser_settings()
    _cli(args, run=True, parser_kwargs={**strict, **dict.fromkeys(TrainingCLI.subcommands(), strict)})


def build(args: list[str]) -> TrainingCLI:
    """Makes the trainer, the model and the data module of a config, and runs nothing.

    Args:
        args: the options, without a subcommand, such as `["--config", "pipeline/configs/demo.yaml"]`.

    Returns:
        Something with the attributes `trainer`, `model` and `datamodule`.
    """
    return _cli(args, run=False, parser_kwargs=parser_settings())


def parser_settings() -> dict[str, Any]:
    """Raise what `pipeline.__main__` turns into one line, not a page of usage; know no option by its first letters."""
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
