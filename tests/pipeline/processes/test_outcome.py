"""The outcome of a process travels as JSON and with an exception."""

import json
import pickle

import pytest

from pipeline.processes.outcome import ProcessOutcome, attach_outcome, attached_outcome

STOPPED = ProcessOutcome("stopped", "interrupted; stopped at step 3", 130, "step-3.ckpt", "fit --ckpt_path step-3.ckpt")


def test_the_record_is_json() -> None:
    assert ProcessOutcome.from_dict(json.loads(json.dumps(STOPPED.as_dict()))) == STOPPED
    with pytest.raises(ValueError, match="not the outcome of a process"):
        ProcessOutcome.from_dict({"kind": "stopped", "status": 1})


def test_an_exception_carries_it_between_processes_and_shows_it_last() -> None:
    error = RuntimeError("the machine is on fire")
    assert attached_outcome(error) is None
    attach_outcome(error, STOPPED)
    assert attached_outcome(pickle.loads(pickle.dumps(error))) == STOPPED
    assert error.__notes__ == [
        "error: interrupted; stopped at step 3; the newest checkpoint is step-3.ckpt; "
        "go on with: fit --ckpt_path step-3.ckpt"
    ]
