"""Records of trials for tests."""

from typing import Any

from jobs.spec.search_space import SearchSpace
from jobs.storage.search_record import TrialRecord, TrialReport

RATE = "model.init_args.learning_rate"


def make_space(**changes: Any) -> SearchSpace:
    content = {"metric": "val/top1", "search": "random", "trials": 4, "parameters": {RATE: {"loguniform": [0.01, 1]}}}
    return SearchSpace.from_dict(content | changes)


def make_trial(number: int, values: list[float], state: Any = "finished", message: str = "") -> TrialRecord:
    """A trial with these values of val/top1, one an epoch; trial N reports epoch E at 10 E + N seconds."""
    reports = [
        TrialReport(epoch, 8 * epoch, {"val/top1": value, "val/loss": 1.0}, 10.0 * epoch + number)
        for epoch, value in enumerate(values, start=1)
    ]
    return TrialRecord(number, {RATE: 0.01 * 3**number}, state, tuple(reports), message)
