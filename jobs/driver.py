"""The job itself, on the cluster: `python -m jobs.driver JOB_FILE -- ARGS`, started by Ray's job server.

`fit`, `validate`, `test` and `predict` run on all train workers under Ray Train, which places them, restarts them after
failures, and keeps the checkpoints they report. `evaluate` and `features` share the videos out over all workers
(`jobs.ranks`). `pack` is mapped over tasks, a shard each (`jobs.pack`). Every other verb runs once, as a task.
"""

import contextlib
import dataclasses
import ipaddress
import logging
import os
import shlex
import sys
import time
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch

from jobs.ranks import RANKED_VERBS, run_on_ranks
from jobs.results import SCORE, RunFolder, fingerprint, one_line
from jobs.spec import JOB_FILE, RESOLVED_FILE, Job, JobSpec
from jobs.staging import UPLOAD_PREFIX
from jobs.submission import Submission
from jobs.watch import RecordFailures
from jobs.worker import run_verb, train_worker, upload_root
from pipeline.__main__ import LIGHTNING_VERBS
from pipeline.words import explain

LOG_DELAY_S = 0.5  # what the workers printed last is on its way here


def main(words: Sequence[str] | None = None) -> int:
    """Run a job.

    Args:
        words: `JOB_FILE -- ARGS`; default: those of this process.

    Returns:
        The exit status.
    """
    job_file, _, *args = list(sys.argv[1:] if words is None else words)
    job = Job.read(Path(job_file))
    record = None
    try:
        record = _record(job, Path(job_file))
        ray.init(address="auto", log_to_driver=True, logging_level=logging.WARNING)
        status, last_lines = _run(job, args)
    except (ArgumentError, ValueError, OSError, TimeoutError) as error:
        status, last_lines = 1, [f"error: {explain(error)}"]
    time.sleep(LOG_DELAY_S)
    ray.shutdown()
    if record is not None:
        with contextlib.suppress(OSError):  # the storage is gone; the run itself has said so
            record.end(status)
    for line in last_lines:
        print(line, file=sys.stderr if status else sys.stdout, flush=True)
    return status


def _record(job: Job, job_file: Path) -> Submission | None:
    """Leave in the run's folder what `resume` needs; None where nothing was uploaded, or it cannot be written."""
    if job_file.resolve() != upload_root() / JOB_FILE:
        return None
    record = Submission(job.spec.storage_path, str(job.spec.name))
    try:
        record.begin(job, upload_root())
    except OSError as error:
        print(f"note: this job cannot be resumed, {record.run.address} cannot be written: {error}", file=sys.stderr)
        return None
    return record


def _run(job: Job, args: Sequence[str]) -> tuple[int, list[str]]:
    """Run a verb in its way; returns the exit status and the last lines of the log."""
    if job.check or args[0] == "doctor":
        from jobs.check_nodes import check_nodes  # here: it imports what reads videos

        _wait_for_room(job.spec, 1 if args[0] in ("doctor", "pack") else job.spec.num_workers)
        status, last_lines = check_nodes(job, args, _loopback_variables())
        if status or args[0] == "doctor":
            return status, last_lines
    if args[0] in LIGHTNING_VERBS:
        _wait_for_room(job.spec, job.spec.num_workers)
        return train(job, args)
    if args[0] == "pack":
        from jobs.pack import pack_on_cluster  # here: no other job has a use for what it imports

        _wait_for_room(dataclasses.replace(job.spec, cpus_per_worker=1, gpus_per_worker=0), 1)
        return pack_on_cluster(job, args)
    if args[0] in RANKED_VERBS:
        _wait_for_room(job.spec, job.spec.num_workers)
        return run_on_ranks(job, args, _loopback_variables())
    _wait_for_room(job.spec, 1)
    return run_once(job, args)


def train(job: Job, args: Sequence[str]) -> tuple[int, list[str]]:
    """Run one of Lightning's verbs on all train workers, and leave the run's folder in order.

    Returns:
        The exit status, 1 where the run failed for good, and the last lines of the log.

    Raises:
        ValueError: a run of this name has finished, with another command.
    """
    spec, started = job.spec, time.time()
    run = RunFolder(spec.storage_path, str(spec.name))
    command = fingerprint(args, [upload_root() / path for path in _uploaded_configs(args)])
    finished = run.read_result() if args[0] == "fit" else None
    if finished is not None:
        return 0, _finished_before(finished, run, command)
    configuration = upload_root() / RESOLVED_FILE
    if args[0] == "fit" and configuration.is_file():
        run.write_config(configuration.read_text(encoding="utf-8"))
    trainer = ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config={"args": list(args), "job": dataclasses.asdict(job)},
        torch_config=ray.train.torch.TorchConfig(
            backend="nccl" if spec.gpus_per_worker else "gloo", timeout_s=int(spec.collective_timeout_s)
        ),
        scaling_config=ray.train.ScalingConfig(
            num_workers=spec.num_workers,
            use_gpu=bool(spec.gpus_per_worker),
            resources_per_worker={"CPU": spec.cpus_per_worker, **({"GPU": 1} if spec.gpus_per_worker else {})},
            placement_strategy=spec.placement,
        ),
        run_config=ray.train.RunConfig(  # type: ignore[call-arg] # mypy takes it for the one of V1
            name=spec.name,
            storage_path=spec.storage_path,
            failure_config=ray.train.FailureConfig(max_failures=spec.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=spec.keep_checkpoints, checkpoint_score_attribute=SCORE, checkpoint_score_order="max"
            ),
            callbacks=[RecordFailures(spec.storage_path, str(spec.name))],  # type: ignore[list-item] # likewise
            worker_runtime_env={"env_vars": _loopback_variables()},
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        return 1, run.failure_lines(one_line(error), since=started)
    if args[0] != "fit":
        return 0, []
    run.finish(
        [(checkpoint.path, metrics) for checkpoint, metrics in result.best_checkpoints or []],
        last=result.checkpoint.path if result.checkpoint else None,
        monitor=spec.monitor,
        mode=spec.monitor_mode,
        facts={
            "command": shlex.join(["python", "-m", "pipeline", *args]),
            "fingerprint": command,
            "seconds": round(time.time() - started, 1),
            "num_workers": spec.num_workers,
            "versions": {"ray": ray.__version__},
        },
    )
    return 0, run.last_lines()


def run_once(job: Job, args: Sequence[str]) -> tuple[int, list[str]]:
    """Run any other verb, in one task with the resources of one worker.

    Returns:
        Its exit status, and the reason where it failed.
    """
    task = ray.remote(num_cpus=job.spec.cpus_per_worker, num_gpus=job.spec.gpus_per_worker)(run_verb)
    outcome: tuple[int, list[str]] = ray.get(task.options(max_retries=job.spec.max_failures).remote(job, args))
    return outcome


def _finished_before(finished: Mapping[str, Any], run: RunFolder, command: str) -> list[str]:
    """The last lines for a run that had finished before; ValueError if it was of another command."""
    if finished["fingerprint"] != command:
        last = finished["checkpoints"].get("last", "CKPT")
        raise ValueError(
            f"name={run.name}: this run has finished, with another command or config ({finished['command']}); give "
            f"this one another --name; to go on from there, add `--ckpt_path {last}`"
        )
    return ["this run has finished already; there is nothing to do", *run.last_lines()]


def _wait_for_room(spec: JobSpec, workers: int) -> None:
    """Wait until the cluster has what the job asks for; TimeoutError says what is missing."""
    need = {"CPU": workers * spec.cpus_per_worker, "GPU": workers * spec.gpus_per_worker}
    deadline = time.monotonic() + (0 if _is_local_cluster() else spec.start_timeout_s)
    said = False
    while True:
        have: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        missing = [
            f"{n} {name} (the cluster has {have.get(name, 0):g})" for name, n in need.items() if n > have.get(name, 0)
        ]
        if not missing:
            return
        words = ", ".join(missing)
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{workers} workers with cpus_per_worker={spec.cpus_per_worker} and "
                f"gpus_per_worker={spec.gpus_per_worker} take {words}; ask for less or add nodes"
                " (a local cluster: `python -m jobs down`, then `up --num-cpus N`)"
            )
        if not said:
            print(f"waiting up to {spec.start_timeout_s:g} s for room: the job takes {words}", flush=True)
            said = True
        time.sleep(1.0)


def _is_local_cluster() -> bool:
    """Whether all nodes keep to loopback, as those of `python -m jobs up` do."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return all(ipaddress.ip_address(node["NodeManagerAddress"]).is_loopback for node in nodes if node["Alive"])


def _loopback_variables() -> dict[str, str]:
    """On a cluster that keeps to loopback, gloo must too: it takes the host name's address, which may not resolve."""
    if not _is_local_cluster() or "GLOO_SOCKET_IFNAME" in os.environ:  # the job's own env holds
        return {}
    return {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}


def _uploaded_configs(args: Sequence[str]) -> list[str]:
    values = [arg.partition("=")[2] if arg.startswith("-") else arg for arg in args]
    return [value.removeprefix(UPLOAD_PREFIX) for value in values if value.startswith(UPLOAD_PREFIX)]


if __name__ == "__main__":
    sys.exit(main())
