"""`evaluate` and `features` as a job: the videos are divided among one process per worker, on any number of nodes.

Each process runs the same command line, as with `--devices N` on one machine; Ray Train sets up the process group.
Every video is processed once, and the tables are those of a single process. `--out` must be a folder that all nodes
see. After a failure the command runs again on all workers, and continues from the finished parts
(`pipeline.inference.resumable_export`).
"""

import contextlib
import dataclasses
import io
import sys
import time
from collections.abc import Sequence
from typing import Any

import ray
import ray.train
import ray.train.torch

from jobs.spec.job import Job
from jobs.spec.upload_paths import enter_working_directory
from jobs.storage.run_folder import RunFolder, describe_exception
from jobs.training.failure_callback import FailureCallback
from jobs.training.worker import make_refusal, run_in_working_directory
from pipeline.processes.outcome import ProcessOutcome

RAY_FOLDER = ".ray"  # in the run's folder: Ray Train's own files


def run_on_ranks(job: Job, args: Sequence[str], variables: dict[str, str]) -> ProcessOutcome:
    """Run a verb on all workers.

    Args:
        job: The job, with its spec.
        args: The command line from the verb on.
        variables: Environment variables of the workers, in addition to the spec's `env`.

    Returns:
        The outcome of the job.
    """
    spec = job.spec
    for option in ("--devices", "--accelerator"):
        if any(arg.partition("=")[0] == option for arg in args):
            print(
                f"note: {option} is for one machine; the spec's num_workers={spec.num_workers} holds here", flush=True
            )
    run, start_time = RunFolder(spec.storage_path, str(spec.name)), time.time()
    trainer = ray.train.torch.TorchTrainer(
        rank_worker,
        train_loop_config={"args": list(args), "job": dataclasses.asdict(job)},
        torch_config=ray.train.torch.TorchConfig(
            backend="nccl" if spec.gpus_per_worker else "gloo", timeout_s=int(spec.collective_timeout_s)
        ),
        scaling_config=ray.train.ScalingConfig(
            num_workers=spec.num_workers,
            use_gpu=bool(spec.gpus_per_worker),
            resources_per_worker=dict(spec.worker_resources),
            placement_strategy=spec.placement,
        ),
        run_config=ray.train.RunConfig(  # type: ignore[call-arg] # mypy takes it for the class of Ray Train V1
            name=RAY_FOLDER,
            storage_path=run.address,
            failure_config=ray.train.FailureConfig(max_failures=spec.max_failures),
            callbacks=[FailureCallback(spec, work=args[0])],  # type: ignore[list-item]
            worker_runtime_env={"env_vars": variables},
        ),
    )
    try:
        trainer.fit()
    except ray.train.TrainingFailedError as error:
        return run.failure_outcome(describe_exception(error), None, since=start_time)
    return ProcessOutcome("finished")


def rank_worker(settings: dict[str, Any]) -> None:
    """Run the verb as one rank; Ray Train calls it on every worker, again after each failure.

    Args:
        settings: `args`, the command line with its `upload:` paths, and `job`, the job as plain data.

    Raises:
        RefusedInputError: the command refused its input; another attempt would refuse it again.
    """
    job = Job.from_dict(settings["job"])
    enter_working_directory(job)
    import torch  # here: the driver imports this module too, and does not need them
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    from pipeline.inference.split_runner import distributed_inference

    torch.set_num_threads(job.spec.threads)
    trainer = {
        "strategy": RayDDPStrategy(),  # type: ignore[no-untyped-call]
        "plugins": [RayLightningEnvironment()],  # type: ignore[no-untyped-call]
        "accelerator": "gpu" if job.spec.gpus_per_worker else "cpu",
        "devices": "auto",
    }
    silenced = io.StringIO() if ray.train.get_context().get_world_rank() else sys.stdout
    with (
        distributed_inference(trainer),
        contextlib.redirect_stdout(silenced),
    ):  # all ranks print the same
        outcome = run_in_working_directory(settings["args"])
    if outcome.exit_status:
        raise make_refusal(outcome.sentence() or f"exit status {outcome.exit_status}")
