"""The job itself, on the cluster: `python -m jobs.driver job.json -- ARGS`, started by Ray's job server.

`fit`, `validate`, `test` and `predict` run on all train workers under Ray Train, which places them, restarts them after
failures, and keeps the checkpoints they report. Every other verb runs once, as a task.
"""

import dataclasses
import ipaddress
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch

from jobs.results import RunFolder, best_of, fingerprint
from jobs.spec import Job, JobSpec
from jobs.staging import UPLOAD_PREFIX, resolve
from jobs.worker import enter, train_worker, upload_root
from pipeline.__main__ import LIGHTNING_VERBS


def main(words: Sequence[str] | None = None) -> int:
    """Run a job.

    Args:
        words: `JOB_FILE -- ARGS`; default: those of this process.

    Returns:
        The exit status.
    """
    job_file, _, *args = list(sys.argv[1:] if words is None else words)
    job = Job.read(Path(job_file))
    ray.init(address="auto", log_to_driver=True)
    try:
        _wait_for_room(job.spec)
        if args[0] in LIGHTNING_VERBS:
            return train(job, args)
        run = ray.remote(num_cpus=job.spec.cpus_per_worker, num_gpus=job.spec.gpus_per_worker)(_run_verb)
        status: int = ray.get(run.options(max_retries=max(job.spec.max_failures, -1)).remote(job, args))
        return status
    except (ValueError, OSError, TimeoutError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 1


def train(job: Job, args: Sequence[str]) -> int:
    """Run one of Lightning's verbs on all train workers, and leave the run's folder in order.

    Returns:
        0, or 1 where the run failed for good.
    """
    spec, started = job.spec, time.time()
    run = RunFolder(spec.storage_path, str(spec.name))
    command = fingerprint(args, [upload_root() / path for path in _uploaded_configs(args)])
    finished = run.read_result() if args[0] == "fit" else None
    if finished is not None:
        return _say_finished(finished, run, same=finished["fingerprint"] == command)
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
        ),
        run_config=ray.train.RunConfig(  # type: ignore[call-arg] # mypy takes it for the one of V1
            name=spec.name,
            storage_path=spec.storage_path,
            failure_config=ray.train.FailureConfig(max_failures=spec.max_failures),
            checkpoint_config=ray.train.CheckpointConfig(
                num_to_keep=spec.keep_checkpoints,
                checkpoint_score_attribute=spec.monitor,
                checkpoint_score_order=spec.monitor_mode,
            ),
            callbacks=[_RecordFailures(spec)],  # type: ignore[list-item] # likewise
            worker_runtime_env={"env_vars": _loopback_variables()},
        ),
    )
    try:
        result = trainer.fit()
    except ray.train.TrainingFailedError as error:
        return _say_failed(error, run)
    if args[0] == "fit":
        _finish(result, job, run, args, command, time.time() - started)
    return 0


class _RecordFailures(ray.train.UserCallback):
    """Writes each failure to the run's folder, from Ray Train's controller."""

    def __init__(self, spec: JobSpec) -> None:
        self._spec = spec

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Called with the exceptions of the ranks that failed."""
        reasons = {str(rank): _reason(error) for rank, error in worker_exceptions.items()}
        RunFolder(self._spec.storage_path, str(self._spec.name)).add_failure({"time": time.time(), "ranks": reasons})
        named = "; ".join(f"rank {rank}: {reason}" for rank, reason in reasons.items())
        print(f"training was interrupted ({named})", file=sys.stderr, flush=True)


def _finish(
    result: ray.train.Result, job: Job, run: RunFolder, args: Sequence[str], command: str, seconds: float
) -> None:
    """Publish the best and the last checkpoint, write result.json, and say where they are."""
    reported = [(checkpoint.path, metrics) for checkpoint, metrics in result.best_checkpoints or []]
    paths: dict[str, str] = {}
    best: Mapping[str, Any] = {}
    if result.checkpoint is not None:
        position = best_of(reported, job.spec.monitor, job.spec.monitor_mode)
        best = reported[position][1]
        paths["best"] = run.publish(reported[position][0], "best.ckpt")
        paths["last"] = run.publish(result.checkpoint.path, "last.ckpt")
    failures = run.read_failures()
    run.write_result(
        {
            "status": "finished",
            "command": shlex.join(["python", "-m", "pipeline", *args]),
            "fingerprint": command,
            "metrics": dict(result.metrics or {}),
            "best_metrics": dict(best),
            "checkpoints": paths,
            "failures": len(failures),
            "failure_reasons": {str(number): failure["ranks"] for number, failure in enumerate(failures)},
            "seconds": round(seconds, 1),
            "num_workers": job.spec.num_workers,
            "versions": {"ray": ray.__version__},
        }
    )
    for name, path in paths.items():
        print(f"{name} checkpoint: {path}")
    print(f"result: {run.address}/result.json", flush=True)


def _say_finished(finished: Mapping[str, Any], run: RunFolder, *, same: bool) -> int:
    """The last lines of a run that had finished before."""
    if not same:
        last = finished["checkpoints"].get("last", "CKPT")
        raise ValueError(
            f"name={Path(run.path).name}: this run has finished, with another command or config "
            f"({finished['command']}); give this one another --name; to go on from there, add `--ckpt_path {last}`"
        )
    print("this run has finished already; there is nothing to do")
    for name, path in finished["checkpoints"].items():
        print(f"{name} checkpoint: {path}")
    print(f"result: {run.address}/result.json", flush=True)
    return 0


def _say_failed(error: Exception, run: RunFolder) -> int:
    """The last lines of a run that failed for good."""
    newest = [info.path for info in run.filesystem.get_file_info(_selector(run)) if "checkpoint_" in info.base_name]
    where = f"the newest checkpoint is {max(newest)}" if newest else "no checkpoint was written"
    reasons = run.read_failures()
    what = "; ".join(f"rank {rank}: {reason}" for rank, reason in reasons[-1]["ranks"].items()) if reasons else ""
    print(f"error: training failed ({what or _reason(error)}); {where}", file=sys.stderr)
    print(f"to go on from there: submit the same again with --name {Path(run.path).name}", file=sys.stderr, flush=True)
    return 1


def _wait_for_room(spec: JobSpec) -> None:
    """Wait until the cluster has what the job asks for; TimeoutError says what is missing."""
    need = {"CPU": spec.num_workers * spec.cpus_per_worker, "GPU": spec.num_workers * spec.gpus_per_worker}
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
                f"num_workers={spec.num_workers} with cpus_per_worker={spec.cpus_per_worker} and "
                f"gpus_per_worker={spec.gpus_per_worker} take {words}; ask for less or add nodes"
                " (a local cluster: `python -m jobs down`, then `up --num_cpus N`)"
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
    return {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"} if _is_local_cluster() else {}


def _run_verb(job: Job, args: Sequence[str]) -> int:
    """Run `python -m pipeline ARGS` in a task."""
    enter(job)
    from pipeline.__main__ import main as run_pipeline

    return run_pipeline(resolve(args, upload_root()))


def _uploaded_configs(args: Sequence[str]) -> list[str]:
    values = [arg.partition("=")[2] if arg.startswith("-") else arg for arg in args]
    return [value.removeprefix(UPLOAD_PREFIX) for value in values if value.startswith(UPLOAD_PREFIX)]


def _selector(run: RunFolder) -> Any:
    import pyarrow.fs

    return pyarrow.fs.FileSelector(run.path, allow_not_found=True)


def _reason(error: BaseException) -> str:
    """The one line of an exception that says what happened: the last that is not part of a traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:300]


if __name__ == "__main__":
    sys.exit(main())
