"""`python -m pipeline fit|validate|test|predict`: LightningCLI with our models and data.

A run is one YAML file plus dotted flags. Any LightningModule, LightningDataModule, callback, logger and Trainer setting
can be named in it by its import path; our own classes also by their bare names.
"""

import logging
import os
import warnings
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import yaml
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

import datamodules.datamodule  # noqa: F401 - lets configs say `class_path: ShardedVideoDataModule`
import lightning_modules  # lets configs say `class_path: C3D`
import lightning_modules.weights.weight_ema  # lets configs say `class_path: WeightEMA`
import pipeline.processes.fully_sharded_strategy  # noqa: F401 - lets configs say `strategy: fsdp2`
from lightning_modules import VideoNetwork
from pipeline.checkpoints.checkpoint_io import AtomicCheckpointIO
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.cli.config_files import given_options, refuse_bad_configs
from pipeline.cli.errors import exit_status, explain
from pipeline.cli.option_groups import GroupedParser
from pipeline.processes.ddp_options import choose_ddp_options
from pipeline.processes.precision import warn_slow_half
from pipeline.processes.rank_exit import end_other_ranks
from pipeline.training.checkpoint_argument import read_model_arguments
from pipeline.training.clip_hand_over import hand_over_clip_settings
from pipeline.training.default_callbacks import (
    JobCallbacks,
    SaveConfigurationCallback,
    choose_callbacks,
    choose_loggers,
)
from pipeline.training.exit_summary import add_resume_hint
from pipeline.training.loader_bottleneck import StepTimer
from pipeline.training.nan_guard import NanGuard
from pipeline.training.run_folder import resolve_best, resolve_last, run_folder
from pipeline.training.run_monitor import RunMonitor
from pipeline.training.wandb_run import choose_run_id, continue_run, finish_wandb_runs, go_offline_without_key


class _Parser(GroupedParser, LightningArgumentParser):
    """Lightning's parser whose help shows the options of the data module in groups."""


class TrainingCLI(LightningCLI):
    """LightningCLI that links class names, task and seed of data and model, and adds the default callbacks to a fit.

    Attributes:
        arguments: the command line, for the hint how to resume a run that ends early; None for no hint.
        job: callbacks of the cluster job that this process is a rank of; None outside of one.
    """

    arguments: Sequence[str] | None = None
    job: JobCallbacks | None = None
    _arguments: Mapping[str, Any] = {}
    _command_line: Sequence[str] = ()

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Creates a parser whose help shows the options of the data module in groups."""
        self.parser_class = _Parser
        return super().init_parser(**kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Links the class names, the task and the seed, and adds the options of checkpoints and NanGuard."""
        parser.link_arguments("data", "model.init_args.class_names", compute_fn=_class_names, apply_on="instantiate")
        parser.link_arguments("data", "model.init_args.task", compute_fn=_task, apply_on="instantiate")
        for target in ("data.init_args.seed", "model.init_args.seed"):
            parser.link_arguments("seed_everything", target, compute_fn=_seed)
        parser.add_class_arguments(CheckpointOptions, "checkpoints")
        parser.add_lightning_class_args(NanGuard, "bad_loss")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parses the arguments, sets the run's folder and checks `--ckpt_path`, before anything is written."""
        super().parse_arguments(parser, args)
        self._command_line = args if isinstance(args, list) else ()
        options: Any = self.config[self.config["subcommand"]] if "subcommand" in self.config else {}
        if self.config.get("subcommand") == "fit":
            if "ModelCheckpoint" not in str(options.trainer.callbacks):  # else Lightning resolves them
                if options.ckpt_path == "last":
                    options.ckpt_path = resolve_last(options)
                elif options.ckpt_path == "best":
                    options.ckpt_path = resolve_best(options)
            options.trainer.default_root_dir = run_folder(options)
        if options.get("ckpt_path") is not None:
            is_trusted = options.get("weights_only") is False
            model = (options.get("model") or {}).get("class_path")
            resumes = self.config["subcommand"] == "fit"
            self._arguments = read_model_arguments(str(options.ckpt_path), model, resumes, is_trusted)
            options.weights_only = not is_trusted  # Lightning's default is to trust local files

    def _parse_ckpt_path(self) -> None:
        """Merges the model's arguments from the checkpoint, read in `parse_arguments`, into the configuration."""
        if not self._arguments:
            return
        verb = self.config["subcommand"]
        try:
            self.config = self.parser.parse_object({verb: {"model": self._arguments}}, self.config)
        except (ArgumentError, TypeError, ValueError) as error:
            raise ValueError(
                f"ckpt_path={self.config[verb].ckpt_path!r}: the arguments of its model are not those of the "
                f"configuration's, give the configuration that it was trained with ({explain(error)})"
            ) from error

    def before_instantiate_classes(self) -> None:
        """Hands the clip settings of a fit's network to its data module."""
        options: Any = self.config["fit"] if self.config.get("subcommand") == "fit" else self.config
        if options.get("model") and options.get("data") and self.config.get("subcommand") in (None, "fit"):
            hand_over_clip_settings(options.model, options.data, self._command_line)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[pl.Callback]) -> pl.Trainer:
        nan_guards: list[pl.Callback] = [callback for callback in callbacks if isinstance(callback, NanGuard)]
        other_callbacks = [callback for callback in callbacks if callback not in nan_guards]
        other_callbacks += [] if self.job is None else self.job.every_verb
        if self.subcommand != "fit":
            return self._make_trainer(config, other_callbacks)
        config["logger"] = choose_loggers(config)
        config["profiler"] = config["profiler"] or StepTimer()
        options = self._get(self.config_init, "checkpoints").for_task(getattr(self.model, "task", "single_label"))
        trainer = self._make_trainer(
            config, [*other_callbacks, *choose_callbacks(config, nan_guards, options, self.job)]
        )
        groups = (("trainer", "strategy", "init_args"), ("trainer", "strategy", "dict_kwargs"))
        given = {name.rpartition(".")[2] for group in groups for name in given_options(self._command_line, group)}
        choose_ddp_options(trainer.strategy, given)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        return trainer

    def _make_trainer(self, config: dict[str, Any], callbacks: list[pl.Callback]) -> pl.Trainer:
        try:
            return super()._instantiate_trainer(config, callbacks)
        except MisconfigurationException as error:  # such as a missing GPU
            described = ", ".join(f"{name}={config[name]!r}" for name in ("accelerator", "devices") if name in config)
            raise ValueError(f"trainer, {described}: {error}") from error

    def before_fit(self) -> None:
        """Sets the run's id, that of the checkpoint if it resumes, and passes the configuration to the RunMonitor."""
        options = self.config["fit"]
        warn_slow_half(self.trainer)
        if isinstance(self.model, VideoNetwork):
            self.model.resumes = options.get("ckpt_path") is not None
        run_id = continue_run(self.trainer.loggers, choose_run_id(options.get("ckpt_path")))
        configuration = yaml.safe_load(self._parser("fit").dump(options, skip_none=False, skip_check=True))
        for monitor in self._run_monitors:
            monitor.identify(run_id, configuration, resumes=options.get("ckpt_path") is not None)

    @property
    def _run_monitors(self) -> list[RunMonitor]:
        callbacks: list[pl.Callback] = getattr(self.trainer, "callbacks", [])  # undeclared in the Trainer
        return [callback for callback in callbacks if isinstance(callback, RunMonitor)]

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            self._run_with_plain_errors(subcommand)
        except BaseException as error:
            if not isinstance(error, SystemExit):  # ranks that are asked to leave do so together
                end_other_ranks(self.trainer.strategy.launcher)
            if self.arguments is not None and any(monitor.began for monitor in self._run_monitors):
                add_resume_hint(error, self.trainer, self.arguments)
                finish_wandb_runs(self.trainer.loggers, exit_status(error))
            raise

    def _run_with_plain_errors(self, subcommand: str) -> None:
        """Runs a subcommand; errors of Lightning and torch about a wrong configuration become ValueErrors."""
        try:
            super()._run_subcommand(subcommand)
        except MisconfigurationException as error:
            hint = "; set trainer.max_epochs higher" if "max_epochs" in str(error) else ""
            raise ValueError(f"trainer: {str(error).rstrip('.')}{hint}") from error
        except RuntimeError as error:
            if not str(error).startswith("Error(s) in loading state_dict"):  # torch names every key
                raise
            raise ValueError(
                f"ckpt_path={self.config[subcommand].ckpt_path!r}: its weights do not fit the configuration's model, "
                f"give the configuration that it was trained with ({error})"
            ) from error


def _class_names(data: pl.LightningDataModule) -> list[str] | None:
    return getattr(data, "class_names", None)


def _task(data: pl.LightningDataModule) -> str:
    return getattr(data, "task", "single_label")


def _seed(seed_everything: bool | int) -> int:
    return int(seed_everything)


def main(args: list[str], add_resume_hints: bool = False, job: JobCallbacks | None = None) -> None:
    """Runs a Lightning subcommand.

    Args:
        args: the command line from the subcommand on, such as `["fit", "--config", "pipeline/configs/demo.yaml"]`.
        add_resume_hints: add to an error that ends training early how to resume (`pipeline.training.exit_summary`).
        job: callbacks of the cluster job that this process is a rank of; None outside of one.
    """
    settings = parser_settings()
    go_offline_without_key()
    if add_resume_hints:
        _silence_semaphore_warnings()
    cli = type("TrainingCLI", (TrainingCLI,), {"arguments": args if add_resume_hints else None, "job": job})
    verb_settings = {verb: settings | _verb_help(verb) for verb in TrainingCLI.subcommands()}
    _make_cli(args, run=True, parser_kwargs={**settings, **verb_settings}, cli=cli)


def _verb_help(verb: str) -> dict[str, str]:
    """Usage line and epilog of a verb's help, which says where the options of models and data are listed."""
    command = f"python -m pipeline {verb}"
    networks = [name for name in lightning_modules.__all__ if name not in ("VideoNetwork", "VideoClassifier")]
    return {
        "usage": f"{command} --config CONFIG [options]",
        "epilog": (
            f"The options of a network: `{command} --model.help {networks[0]}` (or {', '.join(networks[1:])}, or an "
            f"import path), given as --model.init_args.NAME. Those of the data: `{command} --data.help "
            "ShardedVideoDataModule`, given as --data.init_args.NAME. A config has them under model and data."
        ),
    }


def _silence_semaphore_warnings() -> None:
    """Silences Python's warnings about semaphores of ranks that Lightning kills at Ctrl-C, which would come last."""
    filters = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (filters, "ignore:resource_tracker")))


def build(args: list[str]) -> TrainingCLI:
    """Instantiates the trainer, the model and the data module of a config without running anything.

    Args:
        args: the options, without a subcommand, such as `["--config", "pipeline/configs/demo.yaml"]`.

    Returns:
        The CLI object, with the attributes `trainer`, `model` and `datamodule`.
    """
    return _make_cli(args, run=False, parser_kwargs=parser_settings())


def parser_settings() -> dict[str, Any]:
    """Parser settings: errors are raised, for `pipeline.__main__` to print in one line; no abbreviated options."""
    return {"exit_on_error": False, "allow_abbrev": False}


_IGNORED_WARNINGS = (
    "LightningCLI's args parameter",  # args is sys.argv[1:] here, so nothing is given twice
    ".*treespec, LeafSpec.*",  # Lightning 2.6 on torch 2.13
    r".*distributed\.nn\.functional\.all_gather is deprecated",  # Lightning 2.6 on torch 2.13
    "Total length of `list` across ranks is zero",  # no loader of validation, where val_split is null
    "FSDP2-wrapped module .* returned a view tensor",  # no stage of ours changes its input in place
    "The number of training batches .* is smaller than the logging interval",  # epoch ends are logged as well
)
_UNINFORMATIVE = (
    "TPU available: False",
    "💡 Tip: ",
    "Loading `train_dataloader` to estimate number of stepping batches",
)


def _filter_warnings() -> None:
    """Filters warnings and log lines of Lightning and torch that recur at every start and need no action."""
    for message in _IGNORED_WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("pytorch_lightning.utilities.rank_zero").addFilter(_is_informative)  # adding it again is a no-op


def _is_informative(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_UNINFORMATIVE)


def _make_cli(
    args: list[str], run: bool, parser_kwargs: dict[str, Any], cli: type[TrainingCLI] = TrainingCLI
) -> TrainingCLI:
    _filter_warnings()
    refuse_bad_configs(args)
    return cli(
        pl.LightningModule,
        pl.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=None
        if cli.arguments is None
        else SaveConfigurationCallback,  # a cluster job saves its own
        save_config_kwargs={"save_to_log_dir": False},
        seed_everything_default=0,
        trainer_defaults={"log_every_n_steps": 10},
        parser_kwargs=parser_kwargs,
        args=args,
        run=run,
    )
