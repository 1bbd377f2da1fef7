"""A run under Ray Train, as a sequence of attempts.

Within an attempt the number of workers is fixed; Ray Train places the workers and restarts them after failures. A new
attempt begins after the ranks have saved a checkpoint and left (preemption, capacity to grow), and for an elastic run
after each failure, with as many workers as fit on the cluster. Each continues from the newest whole checkpoint.
"""

import dataclasses
import ipaddress
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.ray_internals import torch_backend
from jobs.spec.job import RESOLVED_FILE, Job, with_settings
from jobs.spec.upload_paths import upload_root
from jobs.storage.finished_run import command_fingerprint, refuse_finished_run
from jobs.storage.run_folder import RunFolder, describe_exception
from jobs.training.cluster_capacity import wait_for_workers
from jobs.training.failure_callback import FailureCallback
from jobs.training.heartbeat import HeartbeatBoard
from jobs.training.sigterm_handler import install_sigterm_handler
from jobs.training.stop_signal import STOPPED_STATUS, JobStoppedError, stop_on_sigterm
from jobs.training.trial_board import TrialLink
from jobs.training.watchdog import Watchdog
from jobs.training.worker import train_worker
from pipeline.checkpoints.checkpoint_record import FOLDER
from pipeline.processes.outcome import ProcessOutcome

_ELASTIC_START_TIMEOUT_S = 20  # a worker group not placed within this time is retried with the size that fits by then


class _SigtermBackend(torch_backend()):  # type: ignore[misc] # known when it runs
    def on_training_start(self, worker_group: Any, backend_config: Any) -> None:
        """Called in the controller after the process group is set up; `execute` runs in the workers' main threads."""
        super().on_training_start(worker_group, backend_config)
        worker_group.execute(install_sigterm_handler)


@dataclass
class SigtermTorchConfig(ray.train.torch.TorchConfig):
    """TorchConfig that installs a SIGTERM handler in each worker: training, in another thread, saves and leaves."""

    @property
    def backend_cls(self) -> type[_SigtermBackend]:
        """The class of the backend."""
        return _SigtermBackend


def train(job: Job, args: Sequence[str], trial: TrialLink | None = None) -> ProcessOutcome:
    """Run one of Lightning's verbs on all train workers; a finished `fit` publishes its checkpoints and result.json.

    Args:
        job: The job.
        args: The command line from the verb on, with its `upload:` paths.
        trial: The connection with the search that this run is a trial of, which may stop it; None: SIGTERM to this
            process stops the run.

    Returns:
        The outcome of the run; its exit status is 1 after a failure that is not retried.

    Raises:
        RunFinishedError: a run of this name has finished.
        ValueError: a run of this name has finished with another command.
        TimeoutError: there is no capacity for `min_workers`.
    """
    spec, start_time = job.spec, time.time()
    run = RunFolder(spec.storage_path, str(spec.name))
    refuse_finished_run(run, args, upload_root())
    run.storage.create_folder(FOLDER)
    configuration = upload_root() / RESOLVED_FILE
    if args[0] == "fit" and configuration.is_file():
        run.write_config(with_settings(configuration.read_text(encoding="utf-8"), job.settings))
    try:
        world_sizes = _run_attempts(job, args, trial)
    except (ray.train.TrainingFailedError, JobStoppedError, OSError) as error:
        newest = _newest_checkpoint(run) if args[0] == "fit" else None
        if isinstance(error, JobStoppedError):
            message = str(error) if newest is not None or args[0] != "fit" else "stopped before the first step"
            return run.unfinished_outcome("stopped", message, STOPPED_STATUS, newest)
        reason = str(error) if isinstance(error, OSError) else describe_exception(error)
        return run.failure_outcome(reason, newest, since=start_time)
    if args[0] != "fit":
        return ProcessOutcome("finished")
    publish(job, args, run, {"seconds": round(time.time() - start_time, 1), "num_workers": world_sizes[-1]})
    return ProcessOutcome("finished", "\n".join(run.last_lines()))


def publish(job: Job, args: Sequence[str], run: RunFolder, facts: Mapping[str, Any]) -> None:
    """Link best.ckpt and last.ckpt of a run whose training is done, and write result.json.

    Args:
        job: The job.
        args: The command line from the verb on, with its `upload:` paths.
        run: The run's folder.
        facts: Further entries of result.json.
    """
    command = {
        "command": f"python -m pipeline {job.command or shlex.join(args)}",
        "fingerprint": command_fingerprint(args, upload_root()),
        "versions": {"ray": ray.__version__},
    }
    run.finish(run.checkpoints().publish(), facts=command | dict(facts))


def _run_attempts(job: Job, args: Sequence[str], trial: TrialLink | None) -> list[int]:
    """Start attempts until the command finishes; return the numbers of workers of the attempts that did not fail.

    Raises:
        TrainingFailedError: more than `max_failures` failures.
        JobStoppedError: the job was stopped.
        TimeoutError: there is no capacity for `min_workers`.
    """
    spec, num_failures = job.spec, 0
    world_sizes: list[int] = []
    this_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board = ray.remote(num_cpus=0, max_restarts=-1)(HeartbeatBoard).options(scheduling_strategy=this_node).remote()
    with Watchdog(spec, board) as watchdog, stop_on_sigterm(watchdog) if trial is None else trial.expose(watchdog):
        while True:
            if watchdog.is_stopping:
                raise JobStoppedError("stopped")
            num_workers = spec.num_workers
            if spec.min_workers is not None:
                num_workers = wait_for_workers(spec, lambda: watchdog.is_stopping)
            watchdog.begin_attempt()
            if world_sizes or num_failures:
                print(f"going on with {num_workers} workers", flush=True)
            try:
                result = _make_trainer(job, args, num_workers, board, num_failures, trial).fit()
            except ray.train.TrainingFailedError as error:
                if watchdog.is_stopping:
                    raise JobStoppedError("stopped") from error
                if spec.min_workers is None or _is_refused(error):
                    raise
                num_failures += not isinstance(error, ray.train.ControllerError)  # that is: no capacity for the group
                if -1 < spec.max_failures < num_failures:
                    raise
                continue
            world_sizes.append(num_workers)
            returned: Mapping[str, Any] = result.return_value  # type: ignore[attr-defined] # mypy assumes Ray Train V1
            if not returned["leave_reason"]:
                return world_sizes
            print(f"the ranks saved step {returned['step']} and left: {returned['leave_reason']}", flush=True)
            if watchdog.is_stopping:
                raise JobStoppedError(f"stopped after step {returned['step']}")


def _make_trainer(
    job: Job, args: Sequence[str], num_workers: int, board: Any, num_failures: int, trial: TrialLink | None
) -> ray.train.torch.TorchTrainer:
    spec = job.spec
    elastic = spec.min_workers is not None
    if elastic:
        os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(min(_ELASTIC_START_TIMEOUT_S, spec.start_timeout_s))
    return ray.train.torch.TorchTrainer(
        train_worker,  # type: ignore[arg-type] # V2 hands on what rank 0 returns
        train_loop_config={
            "args": list(args),
            "job": dataclasses.asdict(job),
            "board": board,
            "trial": None if trial is None else trial.settings(),
        },
        torch_config=SigtermTorchConfig(
            backend="nccl" if spec.gpus_per_worker else "gloo", timeout_s=int(spec.collective_timeout_s)
        ),
        scaling_config=ray.train.ScalingConfig(
            num_workers=num_workers,
            use_gpu=bool(spec.gpus_per_worker),
            resources_per_worker=dict(spec.worker_resources),
            placement_strategy=spec.placement,
        ),
        run_config=ray.train.RunConfig(  # type: ignore[call-arg] # mypy takes it for the class of Ray Train V1
            name=spec.name,
            storage_path=spec.storage_path,
            failure_config=ray.train.FailureConfig(  # type: ignore[call-arg] # mypy assumes Ray Train V1
                max_failures=0 if elastic else spec.max_failures, controller_failure_limit=0 if elastic else -1
            ),
            callbacks=[FailureCallback(spec, board, num_failures=num_failures)],  # type: ignore[list-item] # mypy assumes V1
            worker_runtime_env={"env_vars": loopback_variables()},
        ),
    )


def _newest_checkpoint(run: RunFolder) -> str | None:
    store = run.checkpoints()
    try:
        saved = store.list_checkpoints()
    except OSError:
        return None
    return store.address(saved[-1]) if saved else None


def _is_refused(error: BaseException) -> bool:
    """Whether `FailureCallback` ended the run because another attempt would fail in the same way."""
    cause = getattr(error, "controller_failure", None)
    return isinstance(cause, RuntimeError)


def is_local_cluster() -> bool:
    """Whether all nodes listen on loopback, as in the cluster of `python -m jobs up`."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return all(ipaddress.ip_address(node["NodeManagerAddress"]).is_loopback for node in nodes if node["Alive"])


def loopback_variables() -> dict[str, str]:
    """Environment variables that bind gloo to loopback on a local cluster: the host name may not resolve."""
    if not is_local_cluster() or "GLOO_SOCKET_IFNAME" in os.environ:  # the job's own env has precedence
        return {}
    return {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
