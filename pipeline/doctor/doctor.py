"""`python -m pipeline doctor`: is this machine ready for a run? `python -m jobs submit --check` checks a cluster.

python -m pipeline doctor --config pipeline/configs/demo.yaml --storage-path runs
"""

import argparse
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.doctor.collective_check import check_collective
from pipeline.doctor.findings import Finding, compare_versions, examine, print_findings
from pipeline.doctor.machine_checks import check_dataset, check_decoder, check_disk, check_gpu, check_wandb, versions
from pipeline.doctor.precision_check import check_precision
from pipeline.doctor.step_check import check_step
from pipeline.doctor.storage_check import check_storage
from pipeline.processes.killable_process import KillableProcess, ProcessDied, ProcessHung
from pipeline.processes.machine import free_ports
from pipeline.training.resolved_configuration import resolve_configuration

_CONFIG_S = 300.0
_LOCAL_RANKS = 2


@dataclass(frozen=True)
class Plan:
    """The subjects of the checks; plain data.

    Attributes:
        config: options of `fit`, such as ("--config", "pipeline/configs/demo.yaml"); empty for none.
        data: folder or URL of a packed dataset; None for none.
        storage_path: folder or URI for checkpoints and results; None for none.
        decoder: the decoder of the run: auto, pyav, decord or torchcodec.
        cache: folder that caches videos of a URL; None for none.
        wandb: whether the configuration has an online WandbLogger; None: unknown.
        wandb_mode: wandb mode of the job, as in `check_wandb`.
        gpu: whether the run needs GPUs; None: unknown.
        precision: precision of the Trainer; None: unknown.
        foreign: whether the network is not from `lightning_modules`.
        collective_limit_s: seconds for the ranks to reach each other.
        step_limit_s: seconds for two steps.
    """

    config: tuple[str, ...] = ()
    data: str | None = None
    storage_path: str | None = None
    decoder: str = "auto"
    cache: str | None = None
    wandb: bool | None = None
    wandb_mode: str | None = None
    gpu: bool | None = None
    precision: str | int | None = None
    foreign: bool = False
    collective_limit_s: float = 60.0
    step_limit_s: float = 600.0


def main(arguments: list[str]) -> int:
    """Runs the verb.

    Args:
        arguments: the command line after `doctor`.

    Returns:
        0 where nothing failed, else 1.
    """
    plan, found = read_plan(arguments)
    findings = [compare_versions({"here": versions()}), *found, *examine_machine(plan)]
    if plan.storage_path is not None:
        storage = plan.storage_path
        findings.append(examine("storage", lambda: check_storage(storage)))
    else:
        findings.append(Finding("storage", "skipped", "no --storage-path was given"))
    findings.append(examine("collective", lambda: _collective_here(plan)))
    findings.append(examine("one real step", lambda: check_step(plan.config, plan.step_limit_s)))
    print_findings(f"doctor on {os.uname().nodename}", findings)
    return int(any(finding.status == "failed" for finding in findings))


def read_plan(arguments: Sequence[str]) -> tuple[Plan, list[Finding]]:
    """Parses a command line into a plan.

    Args:
        arguments: options of `doctor`, and any options of `fit`: `--config X.yaml`, dotted flags.

    Returns:
        The plan and, where there is a configuration, a finding on whether it can be read. An unreadable configuration
        is not in the plan.

    Raises:
        ArgumentError: an option is wrong.
    """
    given, config = _parser().parse_known_args(list(arguments))
    limits = {"collective_limit_s": given.collective_limit_s, "step_limit_s": given.step_limit_s}
    plan = Plan(data=given.data, storage_path=given.storage_path, **limits)
    if not config:
        return plan, []
    if given.data:
        is_place = "://" in given.data or Path(given.data).is_dir()
        config.append(f"--data{'.init_args.root' if is_place else ''}={given.data}")
    try:
        resolved = resolve_config(config)
    except ValueError as error:
        return plan, [Finding("configuration", "failed", str(error))]
    told = plan_of(resolved, config)
    read = Plan(**{**vars(told), **limits, "storage_path": given.storage_path})
    return read, [Finding("configuration", "passed", f"read: {' '.join(config)}")]


def plan_of(resolved: Mapping[str, Any], config: Sequence[str]) -> Plan:
    """Makes the plan of a configuration.

    Args:
        resolved: the complete configuration, with defaults.
        config: the options of `fit` that it was resolved from.
    """
    data, trainer, model = (resolved.get(part) or {} for part in ("data", "trainer", "model"))
    ours = str(data.get("class_path", "")).endswith("ShardedVideoDataModule")
    init = (data.get("init_args") or {}) if ours else {}
    loggers = trainer.get("logger")
    named = [each for each in (loggers if isinstance(loggers, list) else [loggers]) if isinstance(each, dict)]
    wandb = [each for each in named if str(each.get("class_path", "")).endswith("WandbLogger")]
    return Plan(
        config=tuple(config),
        data=init.get("root"),
        decoder=init.get("decoder", "auto"),
        cache=init.get("cache_dir"),
        wandb=any(not (each.get("init_args") or {}).get("offline") for each in wandb),
        gpu={"gpu": True, "cuda": True, "cpu": False}.get(str(trainer.get("accelerator"))),
        precision=trainer.get("precision"),
        foreign=str(model.get("class_path", "lightning_modules.")).split(".")[0] != "lightning_modules",
    )


def resolve_config(config: Sequence[str]) -> dict[str, Any]:
    """Resolves options of `fit` to the complete configuration, in a child, so that its imports stay there.

    Raises:
        ValueError: the configuration cannot be read; the message is that of `fit`.
    """
    with KillableProcess() as child:
        try:
            text = child.call(resolve_configuration, ["fit", *config], timeout=_CONFIG_S)
        except (ProcessHung, ProcessDied) as error:
            raise ValueError(f"it cannot be read: {error}") from None
    resolved: dict[str, Any] = yaml.safe_load(text)
    return resolved


def examine_machine(plan: Plan) -> list[Finding]:
    """Runs the checks that need no other machine; all machines have the same checks in the same order."""
    places = {}
    if plan.storage_path is not None and "://" not in plan.storage_path:
        places["storage"] = plan.storage_path
    if plan.cache is not None:
        places["cache"] = plan.cache
    return [
        examine("decoder", lambda: check_decoder(plan.decoder)),
        examine("data", lambda: check_dataset(plan.data, plan.decoder)),
        examine("free disk", lambda: check_disk(places)),
        examine("wandb", lambda: check_wandb(plan.wandb, plan.wandb_mode)),
        examine("GPU", lambda: check_gpu(plan.gpu)),
        examine("gradients", lambda: check_precision(plan.precision, plan.gpu, plan.foreign)),
    ]


def _collective_here(plan: Plan) -> str:
    """Runs `check_collective` with two ranks on this machine."""
    import torch

    backend = "nccl" if torch.cuda.device_count() >= _LOCAL_RANKS and plan.gpu is not False else "gloo"
    address = f"127.0.0.1:{free_ports('127.0.0.1', 1)[0]}"
    outcomes: dict[int, Finding] = {}

    def take_part(rank: int) -> None:
        arguments = (rank, _LOCAL_RANKS, address, backend, plan.collective_limit_s)
        outcomes[rank] = examine("collective", lambda: check_collective(*arguments))

    threads = [threading.Thread(target=take_part, args=(rank,)) for rank in range(_LOCAL_RANKS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [outcome.text for outcome in outcomes.values() if outcome.status == "failed"]
    if failed:
        raise ValueError(failed[0])
    return f"{outcomes[0].text}, on this machine"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline doctor",
        description="Tests what a run needs, and says what to do about what it finds wrong. All other options are "
        "those of `fit`: with --config FILE and dotted flags, two real steps of that run are taken.",
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_argument("--data", help="folder or URL of a packed dataset; default: the configuration's")
    parser.add_argument("--storage-path", "--storage_path", help="where checkpoints and results will go")
    for name, seconds, what in (
        ("collective", Plan.collective_limit_s, "the processes to reach each other"),
        ("step", Plan.step_limit_s, "two steps of the configuration"),
    ):
        flags = (f"--{name}-limit-s", f"--{name}_limit_s")
        parser.add_argument(*flags, type=float, default=seconds, help=f"seconds for {what}; default: %(default)s")
    return parser
