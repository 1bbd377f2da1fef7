"""Train worker: runs the user's command line as one rank, with the settings for Ray appended."""

import dataclasses
import hashlib
import logging
import os
import uuid
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray.train
from ray.train.collective import broadcast_from_rank_zero

from jobs.ray_internals import silence_reports
from jobs.spec.job import OVERLAY_FILE, Job
from jobs.spec.job_spec import JobSpec
from jobs.spec.upload_paths import enter_working_directory, resolve_upload_paths, upload_root
from jobs.storage.metrics_copy import MetricsCopy
from jobs.storage.run_folder import RunFolder
from jobs.training.heartbeat import HeartbeatSender
from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_record import CheckpointRecord
from pipeline.checkpoints.checkpoint_store import CheckpointStore, NoIntactCheckpointError
from pipeline.processes.outcome import ProcessOutcome


class RefusedInputError(ValueError):
    """Raised for bad input found before the first training step, which another attempt would find again."""


def train_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Run `pipeline.training.lightning_cli.main` as one rank; Ray Train calls it on every worker.

    Args:
        settings: `args`, the command line with its `upload:` paths; `job`, the content of job.json; `board`, the handle
            of a `jobs.training.heartbeat.HeartbeatBoard`, or None; `trial`, what
            `jobs.training.trial_board.TrialLink.settings` returns, or None.

    Returns:
        `leave_reason`: the reason why the ranks saved a checkpoint and left early; empty if the command finished;
        `step`: the number of optimizer steps done by then.
    """
    job = Job.from_dict(settings["job"])
    enter_working_directory(job)
    import torch  # here: the driver imports this module too, and does not need them

    from jobs.training.checkpoint_callback import RestartRequestedError
    from pipeline.cli.errors import explain
    from pipeline.training.lightning_cli import main
    from pipeline.training.nan_guard import BadLossError

    torch.set_num_threads(job.spec.threads)
    name_wandb_run(job)
    silence_reports()
    warnings.filterwarnings("ignore", message=".*args parameter is intended to run from within Python.*")
    run = RunFolder(job.spec.storage_path, str(job.spec.name))
    checkpoint, sender = _start_heartbeats(job.spec, run, settings["args"][0], settings.get("board"))
    try:
        main(
            worker_args(settings["args"], run, checkpoint),
            job=_job_callbacks(run, sender, settings.get("trial"), resumes=checkpoint is not None),
        )
    except RestartRequestedError as restart:
        restart.drop_wrapper()
        return {"leave_reason": restart.reason, "step": restart.step}
    except SystemExit as stop:  # jsonargparse has printed its error; Ray would not take this for a failure
        if stop.code not in (0, None):
            raise RefusedInputError("the command line cannot be read; the reason is in the lines above") from None
    except BadLossError as error:  # the same videos would give it again
        raise make_refusal(explain(error)) from None
    except (ArgumentError, ValueError, OSError, ImportError) as error:  # what `python -m pipeline` reports in one line
        if os.environ.get("PIPELINE_DEBUG") or sender.has_trained or checkpoint is not None:
            raise
        raise make_refusal(explain(error)) from None
    finally:
        sender.stop()
    return {"leave_reason": "", "step": 0}


def _start_heartbeats(spec: JobSpec, run: RunFolder, verb: str, board: Any) -> tuple[Path | None, HeartbeatSender]:
    """Start the heartbeats of this rank, and find the checkpoint to continue from, the same on all ranks.

    Raises:
        RefusedInputError: There are checkpoints, but none is readable.
        OSError: The storage cannot be read.
    """
    context = ray.train.get_context()
    state: dict[str, Any] = {}
    if context.get_world_rank() == 0:
        state = {"group": uuid.uuid4().hex, **(_find_checkpoint(run) if verb == "fit" else {})}
    state = broadcast_from_rank_zero(state)
    sender = HeartbeatSender(
        context.get_world_rank(), context.get_world_size(), state["group"], board, spec.hang_timeout_s
    )
    sender.start()
    if "refused" in state:
        raise make_refusal(state["refused"])
    if "storage_error" in state:
        raise OSError(state["storage_error"])
    newest = CheckpointRecord(**state["newest"]) if state.get("newest") else None
    return (run.checkpoints().fetch(newest) if newest is not None else None), sender


def _job_callbacks(run: RunFolder, sender: HeartbeatSender, trial: dict[str, Any] | None, resumes: bool) -> Any:
    """The `JobCallbacks` of this rank."""
    from jobs.training.checkpoint_callback import CheckpointCallback
    from jobs.training.heartbeat_callback import HeartbeatCallback
    from jobs.training.trial_callback import TrialCallback
    from pipeline.training.default_callbacks import JobCallbacks

    def checkpoints(options: CheckpointOptions) -> CheckpointCallback:
        return CheckpointCallback(options, CheckpointStore(run.storage, options), sender, MetricsCopy(run, resumes))

    every_verb = [HeartbeatCallback(sender), *([] if trial is None else [TrialCallback(**trial)])]
    return JobCallbacks(every_verb, checkpoints)


def _find_checkpoint(run: RunFolder) -> dict[str, Any]:
    """Find the newest whole checkpoint of earlier attempts, and set damaged ones aside; called on rank 0."""
    store = run.checkpoints()
    try:
        newest, damaged = store.find_newest_intact()
        if newest is not None:
            store.rename_damaged(damaged, newest, lambda line: print(f"warning: {line}", flush=True))
    except NoIntactCheckpointError as error:
        return {"refused": f"name={run.name}: {error}; start anew under another --name, or bring one back there"}
    except OSError as error:
        return {"storage_error": f"the storage cannot be read: {error}"}
    # Without its metrics, because the broadcast must be small.
    return {"newest": None if newest is None else dataclasses.asdict(dataclasses.replace(newest, metrics={}))}


def make_refusal(message: str) -> RefusedInputError:
    """Build the error of a refused input; Ray logs no traceback, because the driver prints the message last."""
    logging.getLogger("ray.train").setLevel(logging.CRITICAL)  # else it prints the traceback
    return RefusedInputError(message)


def run_verb(job: Job, args: Sequence[str]) -> ProcessOutcome:
    """Run `python -m pipeline ARGS` in this process.

    Returns:
        The outcome. Its message is printed by the driver: the output of a task that ends may be lost, and every rank
        would print it.
    """
    enter_working_directory(job)
    return run_in_working_directory(args)


def run_in_working_directory(args: Sequence[str]) -> ProcessOutcome:
    """Run `python -m pipeline ARGS` in this process, which is in the working directory of the job already."""
    from pipeline.__main__ import run

    try:
        return run(resolve_upload_paths(args, upload_root()))
    except SystemExit as stop:  # Ray would take it for a crash
        status = stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
        return ProcessOutcome("failed" if status else "finished", exit_status=status)


def name_wandb_run(job: Job) -> None:
    """Set the wandb id of a run and, for a trial, its name and its search's group, unless they are set."""
    os.environ.setdefault("WANDB_RUN_ID", wandb_run_id(job.spec))
    if job.search:
        os.environ.setdefault("WANDB_RUN_GROUP", job.search)
        os.environ.setdefault("WANDB_NAME", f"{job.search}-{job.spec.name}")


def wandb_run_id(spec: JobSpec) -> str:
    """The wandb id of a run, eight hexadecimal digits; the same for every job with this name and storage path."""
    return hashlib.sha256(f"{spec.storage_path}/{spec.name}".encode()).hexdigest()[:8]


def worker_args(args: Sequence[str], run: RunFolder, checkpoint: Path | None) -> list[str]:
    """The complete command line of this worker.

    Before the user's arguments, so that these override it: default_root_dir, the run's folder; if that is a URI, a
    folder on this node for the metrics.csv of a fit, which is copied from there. After them, so that they override
    the user's: the Ray overlay with the accelerator, `fsdp2` in its form for Ray if the user asks for it, and the
    checkpoint to continue from, if there is one.
    """
    from jobs.training.sharded_strategy import strategy_arguments  # imports torch, which the driver does not need

    verb, *rest = resolve_upload_paths(args, upload_root())
    arguments = [verb]
    if run.storage.is_local or verb == "fit":
        arguments.append(f"--trainer.default_root_dir={run.storage.node_folder()}")
    arguments += [*rest, f"--config={upload_root() / OVERLAY_FILE}", *strategy_arguments(rest)]
    return arguments if checkpoint is None else [*arguments, f"--ckpt_path={checkpoint}"]
