"""`python -m pipeline doctor`: is this machine ready for a run? `python -m jobs submit --check` checks a cluster.

python -m pipeline doctor --config pipeline/configs/demo.yaml --storage-path runs
"""

import argparse
import dataclasses
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from datamodules.loading.frame_options import FrameOptions
from datamodules.loading.loader_options import DEFAULT_WORKERS, LoaderOptions
from datamodules.loading.planned_loader import HELD_BATCHES
from datamodules.sampling.clip_options import ClipOptions
from pipeline.doctor.check_results import CheckResult, compare_versions, print_check_results, run_check
from pipeline.doctor.collective_check import check_collective
from pipeline.doctor.machine_checks import (
    check_dataset,
    check_decoder,
    check_disk,
    check_gpu,
    check_shared_memory,
    check_wandb,
    installed_versions,
)
from pipeline.doctor.precision_check import check_precision
from pipeline.doctor.step_check import check_step
from pipeline.doctor.storage_check import check_storage
from pipeline.processes.killable_process import KillableProcess, ProcessDied, ProcessHung
from pipeline.processes.machine import free_ports
from pipeline.training.resolved_configuration import resolve_configuration

_CONFIG_S = 300.0
MIN_RANKS = 2  # of a collective
_DATA_OPTIONS = (LoaderOptions, ClipOptions, FrameOptions)


@dataclass(frozen=True)
class CheckPlan:
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
        is_foreign: whether the network is not from `lightning_modules`.
        collective_limit_s: seconds for the ranks to reach each other.
        step_limit_s: seconds for two steps.
        shared_memory_bytes: bytes that the data loader workers of a rank may hold in shared memory.
        num_ranks: ranks on a machine; None: one for each GPU, where the run is on GPUs.
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
    is_foreign: bool = False
    collective_limit_s: float = 60.0
    step_limit_s: float = 600.0
    shared_memory_bytes: int = 0
    num_ranks: int | None = None


def main(arguments: list[str]) -> int:
    """Runs the verb.

    Args:
        arguments: the command line after `doctor`.

    Returns:
        0 where nothing failed, else 1.
    """
    plan, configuration_results = parse_plan(arguments)
    results = [compare_versions({"here": installed_versions()}), *configuration_results, *check_machine(plan)]
    if plan.storage_path is not None:
        storage = plan.storage_path
        results.append(run_check("storage", lambda: check_storage(storage)))
    else:
        results.append(CheckResult("storage", "skipped", "no --storage-path was given"))
    results.append(run_check("collective", lambda: _check_local_collective(plan)))
    results.append(run_check("one real step", lambda: check_step(plan.config, plan.step_limit_s)))
    print_check_results(f"doctor on {os.uname().nodename}", results)
    return int(any(result.status == "failed" for result in results))


def parse_plan(arguments: Sequence[str]) -> tuple[CheckPlan, list[CheckResult]]:
    """Parses a command line into a plan.

    Args:
        arguments: options of `doctor`, and any options of `fit`: `--config X.yaml`, dotted flags.

    Returns:
        The plan and, where there is a configuration, the result of reading it. An unreadable configuration
        is not in the plan.

    Raises:
        ArgumentError: an option is wrong.
    """
    options, config = _parser().parse_known_args(list(arguments))
    limits = {"collective_limit_s": options.collective_limit_s, "step_limit_s": options.step_limit_s}
    plan = CheckPlan(data=options.data, storage_path=options.storage_path, **limits)
    if not config:
        return plan, []
    if options.data:
        is_dataset = "://" in options.data or Path(options.data).is_dir()
        config.append(f"--data{'.init_args.root' if is_dataset else ''}={options.data}")
    try:
        resolved = resolve_config(config)
    except ValueError as error:
        return plan, [CheckResult("configuration", "failed", str(error))]
    configured = plan_from_configuration(resolved, config)
    plan = CheckPlan(**{**vars(configured), **limits, "storage_path": options.storage_path})
    return plan, [CheckResult("configuration", "passed", f"read: {' '.join(config)}")]


def plan_from_configuration(resolved: Mapping[str, Any], config: Sequence[str]) -> CheckPlan:
    """Makes the plan of a configuration.

    Args:
        resolved: the complete configuration, with defaults.
        config: the options of `fit` that it was resolved from.
    """
    data, trainer, model = (resolved.get(part) or {} for part in ("data", "trainer", "model"))
    is_own_data = str(data.get("class_path", "")).endswith("ShardedVideoDataModule")
    init = (data.get("init_args") or {}) if is_own_data else {}
    loggers = trainer.get("logger")
    logger_configs = [
        logger for logger in (loggers if isinstance(loggers, list) else [loggers]) if isinstance(logger, dict)
    ]
    wandb = [logger for logger in logger_configs if str(logger.get("class_path", "")).endswith("WandbLogger")]
    return CheckPlan(
        config=tuple(config),
        data=init.get("root"),
        decoder=init.get("decoder", "auto"),
        cache=init.get("cache_dir"),
        wandb=any(not (logger.get("init_args") or {}).get("offline") for logger in wandb),
        gpu={"gpu": True, "cuda": True, "cpu": False}.get(str(trainer.get("accelerator"))),
        precision=trainer.get("precision"),
        is_foreign=str(model.get("class_path", "lightning_modules.")).split(".")[0] != "lightning_modules",
        shared_memory_bytes=loader_memory(init) if is_own_data else 0,
        num_ranks=trainer["devices"] if isinstance(trainer.get("devices"), int) and trainer["devices"] > 0 else None,
    )


def loader_memory(options: Mapping[str, Any]) -> int:
    """Bytes that the data loader workers of a rank may hold in shared memory in training.

    num_workers x (prefetch_factor + 3) batches of batch_size x num_frames x crop_size^2 pixels, of 3 bytes each, or 1.5
    in i420 (`datamodules.loading.planned_loader`).

    Args:
        options: options of `ShardedVideoDataModule`; those that are absent have its defaults.
    """
    defaults = {each.name: each.default for part in _DATA_OPTIONS for each in dataclasses.fields(part)}
    values: dict[str, Any] = defaults | {name: value for name, value in options.items() if value is not None}
    pixels = values["batch_size"] * values["num_frames"] * values["crop_size"] ** 2
    num_workers = DEFAULT_WORKERS if values["num_workers"] is None else values["num_workers"]
    batches = num_workers * (values["prefetch_factor"] + HELD_BATCHES)
    return int(batches * pixels * 3 // (2 if values["pixels"] == "i420" else 1))


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


def check_machine(plan: CheckPlan) -> list[CheckResult]:
    """Runs the checks that need no other machine; all machines have the same checks in the same order."""
    folders = {}
    if plan.storage_path is not None and "://" not in plan.storage_path:
        folders["storage"] = plan.storage_path
    if plan.cache is not None:
        folders["cache"] = plan.cache
    return [
        run_check("decoder", lambda: check_decoder(plan.decoder)),
        run_check("data", lambda: check_dataset(plan.data, plan.decoder)),
        run_check("free disk", lambda: check_disk(folders)),
        run_check("shared memory", lambda: check_shared_memory(plan.shared_memory_bytes, ranks_of(plan))),
        run_check("wandb", lambda: check_wandb(plan.wandb, plan.wandb_mode)),
        run_check("GPU", lambda: check_gpu(plan.gpu)),
        run_check("gradients", lambda: check_precision(plan.precision, plan.gpu, plan.is_foreign)),
    ]


def ranks_of(plan: CheckPlan) -> int:
    """Number of ranks of the run on this machine."""
    if plan.num_ranks is not None:
        return plan.num_ranks
    return max(1, torch.cuda.device_count()) if plan.gpu is not False else 1


def _check_local_collective(plan: CheckPlan) -> str:
    """Runs `check_collective` on this machine: a rank on each GPU, or two on the processor."""
    num_gpus = torch.cuda.device_count() if plan.gpu is not False else 0
    backend = "nccl" if num_gpus >= MIN_RANKS else "gloo"
    num_ranks = num_gpus if backend == "nccl" else MIN_RANKS
    address = f"127.0.0.1:{free_ports('127.0.0.1', 1)[0]}"
    results: dict[int, CheckResult] = {}

    def run_rank(rank: int) -> None:
        arguments = (rank, num_ranks, address, backend, plan.collective_limit_s)
        results[rank] = run_check("collective", lambda: check_collective(*arguments))

    threads = [threading.Thread(target=run_rank, args=(rank,)) for rank in range(num_ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [result.text for result in results.values() if result.status == "failed"]
    if failed:
        raise ValueError(failed[0])
    return f"{results[0].text}, on this machine"


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
        ("collective", CheckPlan.collective_limit_s, "the processes to reach each other"),
        ("step", CheckPlan.step_limit_s, "two steps of the configuration"),
    ):
        flags = (f"--{name}-limit-s", f"--{name}_limit_s")
        parser.add_argument(*flags, type=float, default=seconds, help=f"seconds for {what}; default: %(default)s")
    return parser
