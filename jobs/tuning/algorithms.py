"""Ray Tune's search and scheduling algorithms over the record of a search, so that they go on where they were.

Tune's own state of an experiment is not used: it is a pickle, written every few seconds. What both algorithms know
follows from the record: the proposals, and the reports in the order of their times.
"""

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import Searcher

from jobs.spec.proposals import PastTrial, Proposals
from jobs.spec.search_space import SearchSpace
from jobs.storage.search_record import SearchRecord, TrialRecord
from jobs.tuning.trial import EPOCH, IS_LAST


class RecordedSearch(Searcher):
    """Hands out the trials that were interrupted, then new ones; each is recorded before it begins.

    Args:
        space: The search space.
        record: The record of the search.
        trials: The trials of the record, by number; new ones are added.
    """

    def __init__(self, space: SearchSpace, record: SearchRecord, trials: dict[int, TrialRecord]) -> None:
        super().__init__(metric=space.metric, mode=space.mode)
        past = [PastTrial(trial.settings, trial.best_value(space)) for trial in trials.values()]
        self._space = space
        self._record = record
        self._trials = trials
        self._proposals = Proposals(space, past)
        self._interrupted = [trial for trial in trials.values() if needs_run(trial, record)]
        self._numbers: dict[str, int] = {}

    @property
    def num_left(self) -> int:
        """The number of trials that are to run."""
        return len(self._interrupted) + max(0, self._space.num_trials - len(self._trials))

    def suggest(self, trial_id: str) -> Any:
        """The configuration of the next trial; Searcher.FINISHED if there is none left."""
        if self._interrupted:
            trial = self._interrupted.pop(0)
            if trial.state == "failed":
                trial = self._begin(dataclasses.replace(trial, state="running", message=""))
        elif len(self._trials) < self._space.num_trials:
            number = len(self._trials) + 1
            trial = self._begin(TrialRecord(number, self._proposals.propose(number)))
        else:
            return Searcher.FINISHED
        self._numbers[trial_id] = trial.number
        return {"number": trial.number, "settings": trial.settings, "stopped": trial.state == "stopped"}

    def _begin(self, trial: TrialRecord) -> TrialRecord:
        self._record.write_trial(trial)
        self._trials[trial.number] = trial
        return trial

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tell the algorithm the best value of a trial."""
        trial = self._trials[self._numbers[trial_id]]
        self._proposals.add_result(trial.number, trial.best_value(self._space))

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the record has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the record has it all."""


class RecordedASHA(ASHAScheduler):
    """Successive halving that begins with the recorded reports on its rungs, and knows trials by their numbers.

    Args:
        space: The search space.
        trials: The recorded trials.
        max_epochs: The number of epochs of a trial that is not stopped.
    """

    def __init__(self, space: SearchSpace, trials: Sequence[TrialRecord], max_epochs: int) -> None:
        super().__init__(
            time_attr=EPOCH,
            metric=space.metric,
            mode=space.mode,
            max_t=max(max_epochs, space.grace_epochs),
            grace_period=space.grace_epochs,
            reduction_factor=space.reduction_factor,
            stop_last_trials=False,
        )
        for trial in trials:
            super().on_trial_add(None, _numbered(trial.number))  # type: ignore[arg-type] # this one needs no controller
        reports = [(report, trial.number) for trial in trials for report in trial.reports]
        for report, number in sorted(reports, key=lambda each: each[0].time):
            result = {EPOCH: report.epoch, **report.metrics}
            super().on_trial_result(None, _numbered(number), result)  # type: ignore[arg-type]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Called by Tune when a trial is created."""
        super().on_trial_add(tune_controller, _numbered(trial.config["number"]))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Called by Tune with a result; decides whether the trial goes on. After its last epoch it ends by itself."""
        decision = super().on_trial_result(tune_controller, _numbered(trial.config["number"]), result)
        return self.CONTINUE if result.get(IS_LAST) else decision

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Called by Tune when a trial ends; its last report has been counted."""

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Called by Tune when a trial ends before it began."""


def needs_run(trial: TrialRecord, record: SearchRecord) -> bool:
    """Whether a recorded trial was interrupted, failed, or ended without publishing its checkpoints."""
    if trial.state == "refused":
        return False
    return trial.state in ("running", "failed") or record.trial_run(trial.number).read_result() is None


def _numbered(number: int) -> Any:
    """What ASHA reads of a trial: an identity that is the same in every job of the search."""
    return SimpleNamespace(trial_id=str(number))
