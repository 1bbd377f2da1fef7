"""Driver of a job, on the cluster: `python -m jobs.driver JOB_FILE -- ARGS`, started by Ray's job server.

`fit`, `validate`, `test` and `predict` run on all train workers under Ray Train (`jobs.training.attempts`). `evaluate`
and `features` divide the videos among all workers (`jobs.verbs.evaluate`). `pack` is mapped over tasks, a shard each
(`jobs.verbs.pack`). `tune` searches over the settings of a `fit` (`jobs.tuning.search`). Every other verb runs once,
as a task.
"""

import contextlib
import dataclasses
import logging
import os
import sys
import time
from argparse import ArgumentError
from collections.abc import Sequence
from pathlib import Path

import ray

from jobs.ray_log import filter_ray_log
from jobs.spec.job import JOB_FILE, SEARCH_VERB, SUBMISSION_VARIABLE, Job
from jobs.spec.job_spec import JobSpec
from jobs.spec.upload_paths import upload_root
from jobs.storage.finished_run import RunFinishedError
from jobs.storage.job_outcome import describe_outcome, format_outcome
from jobs.storage.job_record import JobRecord
from jobs.storage.run_folder import describe_exception
from jobs.training.attempts import is_local_cluster, loopback_variables, train
from jobs.training.worker import run_verb
from jobs.verbs.evaluate import run_on_ranks
from pipeline.cli.errors import explain
from pipeline.cli.verbs import LIGHTNING_VERBS, RANKED_VERBS
from pipeline.processes.outcome import ProcessOutcome

_LOG_DELAY_S = 0.5  # the last output of the workers is still being forwarded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a job.

    Args:
        arguments: `JOB_FILE -- ARGS`; None: those of this process.

    Returns:
        The exit status.
    """
    job_file, _, *args = list(sys.argv[1:] if arguments is None else arguments)
    job = Job.read(Path(job_file))
    record = None
    try:
        record = _create_record(job, Path(job_file))
        filter_ray_log()
        ray.init(address="auto", log_to_driver=True, logging_level=logging.WARNING)
        outcome = run_job(job, args)
    except RunFinishedError as finished:
        outcome = ProcessOutcome("finished", "\n".join(finished.lines))
    except (ArgumentError, ValueError, OSError, TimeoutError) as error:
        outcome = ProcessOutcome("refused", explain(error), 1)
    except BaseException as error:  # unexpected: with its traceback
        _record_outcome(record, ProcessOutcome("failed", describe_exception(error), 1))
        raise
    time.sleep(_LOG_DELAY_S)
    ray.shutdown()
    _record_outcome(record, outcome)
    for line in describe_outcome(outcome):
        print(line, file=sys.stderr if outcome.exit_status else sys.stdout, flush=True)
    return outcome.exit_status


def _record_outcome(record: JobRecord | None, outcome: ProcessOutcome) -> None:
    """Write the outcome to the log, and to the run's folder."""
    print(format_outcome(outcome), flush=True)
    if record is not None:
        with contextlib.suppress(OSError):  # the storage is gone; the run itself has reported it
            record.add_outcome(outcome)


def _create_record(job: Job, job_file: Path) -> JobRecord | None:
    """Record the job in the run's folder for `resume`; None if nothing was uploaded, or the folder is not writable."""
    if job_file.resolve() != upload_root() / JOB_FILE:
        return None
    record = JobRecord(job.spec.storage_path, str(job.spec.name))
    try:
        record.create(job, upload_root(), os.environ.get(SUBMISSION_VARIABLE, ""))
    except OSError as error:
        print(f"note: this job cannot be resumed, {record.run.address} cannot be written: {error}", file=sys.stderr)
        return None
    return record


def run_job(job: Job, args: Sequence[str]) -> ProcessOutcome:
    """Run the command of a job: on all train workers, as tasks, or as one task, depending on its verb."""
    if job.check or args[0] == "doctor":
        from jobs.verbs.doctor import check_nodes  # here: it imports the video readers

        _wait_for_capacity(job.spec, 1 if args[0] in ("doctor", "pack") else job.spec.smallest_num_workers)
        command = args[args.index("--") + 1 :] if args[0] == SEARCH_VERB else args
        outcome = check_nodes(job, command, loopback_variables())
        if outcome.exit_status or args[0] == "doctor":
            return outcome
    if args[0] == SEARCH_VERB:
        from jobs.tuning.search import run_search  # here: no other verb needs Ray Tune

        _wait_for_capacity(job.spec, job.spec.smallest_num_workers)
        return run_search(job, args)
    if args[0] in LIGHTNING_VERBS:
        _wait_for_capacity(job.spec, job.spec.smallest_num_workers)
        return train(job, args)
    if args[0] == "pack":
        from jobs.verbs.pack import pack_on_cluster  # here: no other verb needs its imports

        _wait_for_capacity(dataclasses.replace(job.spec, cpus_per_worker=1, gpus_per_worker=0), 1)
        return pack_on_cluster(job, args)
    if args[0] in RANKED_VERBS:
        _wait_for_capacity(job.spec, job.spec.num_workers)
        return run_on_ranks(job, args, loopback_variables())
    _wait_for_capacity(job.spec, 1)
    return run_once(job, args)


def run_once(job: Job, args: Sequence[str]) -> ProcessOutcome:
    """Run a verb without a distributed form, in one task with the resources of one worker."""
    task = ray.remote(num_cpus=job.spec.cpus_per_worker, num_gpus=job.spec.gpus_per_worker)(run_verb)
    outcome: ProcessOutcome = ray.get(task.options(max_retries=job.spec.max_failures).remote(job, args))
    return outcome


def _wait_for_capacity(spec: JobSpec, num_workers: int) -> None:
    """Wait until the cluster has the CPUs and GPUs that a job needs; TimeoutError, which names what is missing."""
    required = {name: num_workers * count for name, count in spec.worker_resources.items()}
    deadline = time.monotonic() + (0 if is_local_cluster() else spec.start_timeout_s)
    is_reported = False
    while True:
        existing: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        missing = [
            f"{count} {name} (the cluster has {existing.get(name, 0):g})"
            for name, count in required.items()
            if count > existing.get(name, 0)
        ]
        if not missing:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(
                f"{num_workers} workers with cpus_per_worker={spec.cpus_per_worker} and "
                f"gpus_per_worker={spec.gpus_per_worker} take {', '.join(missing)}; ask for less or add nodes"
                " (a local cluster: `python -m jobs down`, then `up --num-cpus N`)"
            )
        if not is_reported:
            takes = ", ".join(missing)
            print(f"waiting up to {spec.start_timeout_s:g} s for capacity: the job takes {takes}", flush=True)
            is_reported = True
        time.sleep(1.0)


if __name__ == "__main__":
    sys.exit(main())
