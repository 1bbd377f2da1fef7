"""Checks of a search on this machine before its job reaches a cluster: command, metric, options and their values."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from datamodules.dataset.manifest import read_manifest
from jobs.spec.job_spec import JobSpec
from jobs.spec.proposals import option_arguments
from jobs.spec.search_space import SearchSpace
from jobs.spec.upload_paths import resolve_upload_paths
from jobs.submission.preflight import CHECK_TIMEOUT_S
from pipeline.cli.errors import suggest
from pipeline.processes.killable_process import KillableProcess, ProcessDied, ProcessHung
from pipeline.training.resolved_configuration import resolve_configuration


def trial_command(args: Sequence[str]) -> list[str]:
    """The command line of the trials, from `fit` on; ValueError for another verb.

    Args:
        args: The command line of a search, `tune --space FILE -- fit ...`.
    """
    command = list(args[args.index("--") + 1 :])
    if command and command[0] != "fit":
        raise ValueError(f"tune searches over the settings of `fit`, not of `{command[0]}`")
    return command


def monitor_metric(spec: JobSpec, space: SearchSpace) -> JobSpec:
    """The spec with the search's metric as the one that ranks checkpoints: best.ckpt is what a trial is ranked by.

    Raises:
        ValueError: the spec ranks checkpoints by another metric.
    """
    for name, given, wanted in (
        ("monitor", spec.monitor, space.metric),
        ("monitor_mode", spec.monitor_mode, space.mode),
    ):
        if given not in (None, wanted):
            raise ValueError(
                f"{name}={given}: the search ranks by {wanted}; leave {name} out of the spec, or change one"
            )
    return dataclasses.replace(spec, monitor=space.metric, monitor_mode=space.mode)


def check_search_space(space: SearchSpace, args: Sequence[str], resolved: str, staged: Path, origin: Path) -> None:
    """Read the configuration with the extreme values of each parameter, as a trial will.

    Args:
        space: The search space.
        args: The command line of the trials from the verb on, with its `upload:` paths.
        resolved: The whole configuration without the search's settings, as YAML.
        staged: The folder of the upload.
        origin: The folder of submit.

    Raises:
        ValueError: there is no such option, a value is of the wrong type, or the fit does not log the metric.
    """
    configuration = yaml.safe_load(resolved)
    with KillableProcess(os.environ | {"PYTHONPATH": str(staged)}, origin, inherit_path=False) as child:
        logged = child.call(logged_metrics, configuration, timeout=CHECK_TIMEOUT_S)
        if logged and space.metric not in logged:
            raise ValueError(f"metric={space.metric}: the fit does not log it; it logs {', '.join(logged)}")
        for name, distribution in space.parameters.items():
            for value in distribution.extreme_values():
                command = [*args, *option_arguments({name: value})]
                try:
                    child.call(resolve_configuration, resolve_upload_paths(command, staged), timeout=CHECK_TIMEOUT_S)
                except (ValueError, ProcessDied, ProcessHung) as error:
                    raise ValueError(_describe_refusal(name, value, configuration, error)) from None


def logged_metrics(configuration: Mapping[str, Any]) -> list[str]:
    """The metrics that a fit logs; empty if they are not known here, as those of a user's own network.

    Called in a child process, because it imports the networks.

    Args:
        configuration: The whole configuration.
    """
    import lightning_modules
    from lightning_modules.tasks.metrics import classification_metrics, multi_label_metrics

    model = str((configuration.get("model") or {}).get("class_path"))
    network = getattr(lightning_modules, model.rpartition(".")[2], None)
    if not model.startswith("lightning_modules.") or not isinstance(network, type):
        return []
    if not issubclass(network, lightning_modules.VideoClassifier):
        return []
    of_tasks = {"single_label": classification_metrics(2, "val"), "multi_label": multi_label_metrics(2, "val")}
    task = _dataset_task(configuration)
    names = [str(name) for key, metrics in of_tasks.items() if task in (None, key) for name in metrics]
    return ["val/loss", *names, "train/loss"]


def _dataset_task(configuration: Mapping[str, Any]) -> str | None:
    """The task of the dataset; None if this machine does not see it."""
    root = ((configuration.get("data") or {}).get("init_args") or {}).get("root")
    try:
        return str(read_manifest(Path(str(root))).task)
    except (OSError, ValueError):
        return None


def _describe_refusal(name: str, value: Any, configuration: Mapping[str, Any], error: Exception) -> str:
    known = list(_dotted_names(configuration))
    if name not in known and suggest(name, known, ""):
        return f"parameters.{name}: there is no such option of this fit; {suggest(name, known, '')}"
    return f"parameters.{name}: {value!r} is refused: {' '.join(str(error).split())}"


def _dotted_names(configuration: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in configuration.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _dotted_names(value, f"{prefix}{key}.")
