"""Search over settings as a job: `python -m jobs tune`, on the cluster.

Ray Tune proposes settings, runs the trials and decides which of them stop early (`jobs.tuning.algorithms`); each trial
is a run of its own (`jobs.tuning.trial`). This process alone writes the record of the search, before anything follows
from what it records. So a search that lost its driver goes on from the record: trials that ended stay as they are,
interrupted ones resume from their newest checkpoints, the others begin.
"""

import contextlib
import dataclasses
import logging
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import ray
import yaml
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from jobs.spec.job import RESOLVED_FILE, Job
from jobs.spec.search_space import SearchSpace
from jobs.spec.upload_paths import upload_root
from jobs.storage.search_record import SearchRecord, TrialRecord, TrialReport, TrialState
from jobs.storage.trial_table import count_states, describe_search, write_tables
from jobs.training.cluster_capacity import max_workers
from jobs.training.stop_signal import STOPPED_STATUS
from jobs.training.trial_board import TrialBoard
from jobs.tuning.algorithms import RecordedASHA, RecordedSearch
from jobs.tuning.trial import EPOCH, OUTCOME, Trial, TrialPlan
from pipeline.processes.outcome import ProcessOutcome

_UNLIMITED_EPOCHS = 1000  # for the rungs of a run without a number of epochs, which is Lightning's default
_TUNE_VARIABLES = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the record and the runs' own loggers take their place
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # the last result of a trial says how its run ended
    "RAY_AIR_NEW_OUTPUT": "0",  # the newer one prints in spite of verbose=0
}
_HEAD_NODE = "node:__internal_head__"  # a resource of the head node, where the driver is: a lost worker node is no loss


@dataclasses.dataclass
class _StopRequest:
    """Whether SIGTERM asks to stop the search; not an Event, as Tune pickles what holds it."""

    is_made: bool = False


def run_search(job: Job, args: Sequence[str]) -> ProcessOutcome:
    """Run a search, or take it up.

    Args:
        job: The job.
        args: The command line of the search, `tune --space FILE -- VERB ...`, with its `upload:` paths.

    Returns:
        The outcome; its message is the table of trials.

    Raises:
        RunFinishedError: The search has finished.
        ValueError: The search of this name has another space or command.
    """
    record = SearchRecord(job.spec.storage_path, str(job.spec.name))
    space, command = record.begin(args, upload_root())
    trials = {trial.number: trial for trial in record.read_trials(space)}
    if trials:
        print(f"going on with the search: {count_states(list(trials.values()), space)}", flush=True)
    stop = _StopRequest()
    with _sigterm_makes(stop):
        _run_trials(job, command, record, space, trials, stop)
    ended = list(trials.values())
    write_tables(record, ended, space)
    resume = f"python -m jobs tune --resume {job.spec.name}"
    if stop.is_made:
        return ProcessOutcome("stopped", f"stopped: {count_states(ended, space)}", STOPPED_STATUS, resume=resume)
    if failed := [trial for trial in ended if trial.state == "failed"]:
        print("\n".join(describe_search(record, ended, space)), flush=True)
        reason = f"{len(failed)} of {len(ended)} trials failed; trial {failed[0].number}: {failed[0].message}"
        return ProcessOutcome("failed", reason, 1, resume=resume)
    record.finish(ended, space)
    if all(trial.state == "refused" for trial in ended):
        reason = f"all {len(ended)} trials were refused; trial 1: {ended[0].message}"
        return ProcessOutcome("refused", reason, 1)
    return ProcessOutcome("finished", "\n".join(describe_search(record, ended, space)))


def _run_trials(
    job: Job,
    command: Sequence[str],
    record: SearchRecord,
    space: SearchSpace,
    trials: dict[int, TrialRecord],
    stop: _StopRequest,
) -> None:
    """Run the trials that are left under Ray Tune; `trials` is kept up to date."""
    searcher = RecordedSearch(space, record, trials)
    if not searcher.num_left:
        return
    this_node = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board = ray.remote(num_cpus=0)(TrialBoard).options(scheduling_strategy=this_node).remote()
    scheduler = RecordedASHA(space, list(trials.values()), _max_epochs(job)) if space.scheduler == "asha" else None
    plan = TrialPlan(job, command, space.metric, board)
    os.environ.update(_TUNE_VARIABLES)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # what it says of failed trials is in the record
    with tempfile.TemporaryDirectory(prefix="arp-tune-") as folder:
        tune.Tuner(
            tune.with_resources(
                tune.with_parameters(Trial, plan=plan), tune.PlacementGroupFactory([{_HEAD_NODE: 0.001}])
            ),
            tune_config=tune.TuneConfig(
                num_samples=searcher.num_left,
                max_concurrent_trials=_concurrent_trials(job, space),
                search_alg=searcher,
                scheduler=scheduler,
            ),
            run_config=tune.RunConfig(
                name="search",
                storage_path=folder,
                verbose=0,
                stop=_SearchStopper(stop, board),
                failure_config=tune.FailureConfig(max_failures=job.spec.max_failures),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # a run has its own
                callbacks=[_Recorder(record, space, trials)],
            ),
        ).fit()


class _Recorder(tune.Callback):
    """Writes what happens to a trial to its record, and the table anew whenever a trial ends."""

    def __init__(self, record: SearchRecord, space: SearchSpace, trials: dict[int, TrialRecord]) -> None:
        self._record = record
        self._space = space
        self._trials = trials

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Print that a trial starts."""
        shown = ", ".join(f"{name}={value}" for name, value in trial.config["settings"].items())
        print(f"trial {trial.config['number']} of {self._space.num_trials}: {shown}", flush=True)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Record a validation with the scheduler's decision, or how the trial's run ended."""
        current = self._trials[trial.config["number"]]
        if OUTCOME in result:
            self._record_end(current, ProcessOutcome.from_dict(result[OUTCOME]))
            return
        current = current.with_report(TrialReport(result[EPOCH], result["step"], result["metrics"], time.time()))
        if result.get("done"):
            message = f"stopped by the scheduler at epoch {result[EPOCH]}"
            current = dataclasses.replace(current, state="stopped", message=message)
            print(f"trial {current.number}: {message}", flush=True)
        self._write(current)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Record a trial whose process was lost more often than `max_failures`."""
        self._record_end(self._trials[trial.config["number"]], ProcessOutcome("failed", "its process was lost", 1))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Write the table."""
        write_tables(self._record, list(self._trials.values()), self._space)

    def _record_end(self, trial: TrialRecord, outcome: ProcessOutcome) -> None:
        if trial.state == "stopped" or outcome.kind == "stopped":  # to be resumed, or ended before
            return
        if outcome.kind == "finished":
            value = trial.best_value(self._space)
            measured = "no value" if value is None else f"{self._space.metric} {value:.4g}"
            self._write(dataclasses.replace(trial, state="finished"))
            print(f"trial {trial.number}: finished, {measured}", flush=True)
            return
        state: TrialState = "refused" if outcome.kind == "refused" else "failed"
        self._write(dataclasses.replace(trial, state=state, message=outcome.message))
        print(f"trial {trial.number}: {state}: {outcome.message}; the search goes on", flush=True)

    def _write(self, trial: TrialRecord) -> None:
        self._record.write_trial(trial)
        self._trials[trial.number] = trial


class _SearchStopper(tune.Stopper):
    """Ends all trials once the job is being stopped."""

    def __init__(self, stop: _StopRequest, board: Any) -> None:
        self._stop = stop
        self._board = board

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether one trial is to stop: never by this."""
        return False

    def stop_all(self) -> bool:
        """Whether all trials are to stop; the board tells them that they will be resumed."""
        if self._stop.is_made:
            ray.get(self._board.stop_search.remote())
        return self._stop.is_made


@contextlib.contextmanager
def _sigterm_makes(stop: _StopRequest) -> Iterator[None]:
    def handle_signal(number: int, frame: Any) -> None:
        if not stop.is_made:
            print("stopping: the trials save their checkpoints and leave", flush=True)
        stop.is_made = True

    previous = signal.signal(signal.SIGTERM, handle_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _concurrent_trials(job: Job, space: SearchSpace) -> int:
    """The number of trials at a time: as many worker groups as fit on the cluster, at least one."""
    groups = dataclasses.replace(job.spec, num_workers=space.concurrent * job.spec.smallest_num_workers)
    fitting = max(1, max_workers(groups) // job.spec.smallest_num_workers)
    if fitting < space.concurrent:
        print(
            f"note: concurrent={space.concurrent}: the cluster has room for {fitting} trials at a time with "
            f"{job.spec.smallest_num_workers} workers each",
            flush=True,
        )
    return min(space.concurrent, fitting)


def _max_epochs(job: Job) -> int:
    """The number of epochs of a trial, from the whole configuration."""
    path = upload_root() / RESOLVED_FILE
    trainer = yaml.safe_load(path.read_text(encoding="utf-8")).get("trainer") or {} if path.is_file() else {}
    epochs = trainer.get("max_epochs")
    return epochs if isinstance(epochs, int) and epochs > 0 else _UNLIMITED_EPOCHS
