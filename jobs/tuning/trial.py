"""Trial: one trial of a search as Ray Tune runs it: a `fit` under Ray Train, in a thread of Tune's actor.

Each call of `step` lets the training go on to its next validation, and returns it. So Tune decides while the ranks
wait, and a trial that it stops has done exactly the epochs that it was judged by. The actor needs no resources: the
workers of the run are placed by Ray Train, all of them or none.
"""

import dataclasses
import threading
from argparse import ArgumentError
from collections.abc import Sequence
from typing import Any

import ray
from ray import tune

from jobs.spec.job import Job
from jobs.spec.proposals import option_arguments
from jobs.storage.finished_run import RunFinishedError
from jobs.storage.run_folder import RunFolder, describe_exception
from jobs.storage.search_record import TRIALS_FOLDER, trial_name
from jobs.training.attempts import publish, train
from jobs.training.trial_board import TrialLink
from pipeline.cli.errors import explain
from pipeline.processes.outcome import ProcessOutcome

# Keys of a result: epochs done; whether training ends with this epoch in any case; how the trial's run ended.
EPOCH, IS_LAST, OUTCOME = "epoch", "is_last", "outcome"
_POLL_S = 0.5


@dataclasses.dataclass(frozen=True)
class TrialPlan:
    """What the trials of a search have in common.

    Attributes:
        job: The job of the search.
        args: The command line of the trials from the verb on, with its `upload:` paths.
        metric: The metric that the search ranks by.
        board: Handle of the `jobs.training.trial_board.TrialBoard`.
    """

    job: Job
    args: Sequence[str]
    metric: str
    board: Any

    def trial_job(self, number: int, settings: dict[str, Any]) -> Job:
        """The job of a trial: a run of its own below the search's folder."""
        search, arguments = self.job.spec, [*self.args, *option_arguments(settings)]
        storage_path = f"{search.storage_path}/{search.name}/{TRIALS_FOLDER}"
        spec = dataclasses.replace(search, name=trial_name(number), storage_path=storage_path)
        return Job(spec, self.job.origin, tuple(arguments), search=str(search.name), settings=settings)


class Trial(tune.Trainable):
    """Tune's view of a trial; its configuration has `number`, `settings`, and `stopped`.

    `stopped` is true for a trial that an earlier job of the search stopped without publishing its checkpoints.
    """

    def setup(self, config: dict[str, Any], plan: TrialPlan) -> None:  # type: ignore[override] # by `with_parameters`
        """Start the run, or take it up from its newest checkpoint."""
        self._plan = plan
        self._link = TrialLink(config["number"], plan.metric, plan.board)
        self._job = plan.trial_job(config["number"], config["settings"])
        self._outcome = ProcessOutcome("failed", "the trial's process ended")
        self._thread = threading.Thread(target=self._run, args=(config["stopped"],), daemon=True, name="trial")
        self._thread.start()

    def step(self) -> dict[str, Any]:
        """Let the run go on to its next validation, or to its end, which `done` tells."""
        self._decide(stop=False)
        while True:
            is_alive = self._thread.is_alive()  # read before the report: one that was made before the end counts
            report = ray.get(self._plan.board.next_report.remote(self._link.number, _POLL_S))
            if report is not None:
                result = {EPOCH: report.epoch, IS_LAST: report.is_last, "step": report.step}
                return {**result, "metrics": report.metrics, **report.metrics}
            if not is_alive:
                return {"done": True, OUTCOME: self._outcome.as_dict()}
            self._leave_if_stopping()  # Tune's call of `stop` waits until this one returns

    def cleanup(self) -> None:
        """End the run: publish the checkpoints of a trial that is stopped, save one if the whole search is stopped."""
        is_stopping = self._leave_if_stopping()
        self._decide(stop=not is_stopping)
        self._thread.join(self._job.spec.stop_timeout_s)

    def _leave_if_stopping(self) -> bool:
        """If the whole search is being stopped, make the ranks save a checkpoint and leave; returns whether it is."""
        is_stopping: bool = ray.get(self._plan.board.is_stopping.remote())
        if is_stopping and self._link.watchdog is not None:
            self._link.watchdog.stop()
        return is_stopping

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Nothing: the checkpoints are in the run's folder."""
        return {}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: the run takes up its newest checkpoint by itself."""

    def _decide(self, stop: bool) -> None:
        ray.get(self._plan.board.decide.remote(self._link.number, stop))

    def _run(self, is_stopped: bool) -> None:
        try:
            if is_stopped:
                self._outcome = self._publish()
            else:
                self._outcome = train(self._job, self._job.args, self._link)
        except RunFinishedError:
            self._outcome = ProcessOutcome("finished")
        except (ArgumentError, ValueError, OSError) as error:
            self._outcome = ProcessOutcome("refused", explain(error), 1)
        except BaseException as error:
            self._outcome = ProcessOutcome("failed", describe_exception(error), 1)
            raise

    def _publish(self) -> ProcessOutcome:
        run = RunFolder(self._job.spec.storage_path, str(self._job.spec.name))
        publish(self._job, self._job.args, run, {})
        return ProcessOutcome("finished")
