"""Ray Tune's algorithms over a record: a search that is taken up proposes and decides as an undisturbed one."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from jobs.storage.search_record import SearchRecord, TrialRecord
from jobs.tuning.algorithms import RecordedASHA, RecordedSearch
from tests.jobs.tuning.made_trials import make_space, make_trial

STOP, CONTINUE = TrialScheduler.STOP, TrialScheduler.CONTINUE
SPACE = make_space(scheduler="asha", reduction_factor=2)


def decide(scheduler: RecordedASHA, number: int, epoch: int, value: float) -> str:
    trial = SimpleNamespace(trial_id=f"tune-{epoch}-{number}", config={"number": number})
    scheduler.on_trial_add(None, trial)
    return scheduler.on_trial_result(None, trial, {"epoch": epoch, "val/top1": value, "is_last": epoch == 8})


def test_the_rungs_of_a_record_are_those_of_the_search() -> None:
    """Whether reports came before or after an interruption, the trial behind the median of its rung is stopped."""
    trials = [make_trial(1, [0.5, 0.7]), make_trial(2, [0.9])]
    for recorded in (0, 1, 2):
        scheduler = RecordedASHA(SPACE, trials[:recorded], max_epochs=8)
        for trial in trials[recorded:]:
            for report in trial.reports:
                assert decide(scheduler, trial.number, report.epoch, report.metrics["val/top1"]) == CONTINUE
        assert decide(scheduler, 3, 1, 0.6) == STOP, f"{recorded} trials recorded"
        assert decide(scheduler, 4, 1, 0.8) == CONTINUE


def test_a_trial_that_is_resumed_is_on_a_rung_once() -> None:
    scheduler = RecordedASHA(SPACE, [make_trial(1, [0.5]), make_trial(2, [0.9], "running")], max_epochs=8)
    assert decide(scheduler, 2, 1, 0.1) == CONTINUE, "its epoch 1 was reported before"
    assert decide(scheduler, 3, 1, 0.8) == CONTINUE, "and still counts as 0.9"


def test_a_trial_without_a_value_goes_on_and_the_last_epoch_is_no_stop() -> None:
    scheduler = RecordedASHA(SPACE, [make_trial(1, [0.9] * 8)], max_epochs=8)
    trial = SimpleNamespace(trial_id="x", config={"number": 2})
    scheduler.on_trial_add(None, trial)
    assert scheduler.on_trial_result(None, trial, {"epoch": 1}) == CONTINUE
    assert decide(scheduler, 2, 4, 0.1) == STOP
    assert decide(scheduler, 3, 8, 0.1) == CONTINUE


def settings_of(searcher: RecordedSearch) -> list[Any]:
    found = []
    while (config := searcher.suggest(f"id-{len(found)}")) != Searcher.FINISHED:
        found.append((config["number"], config["settings"], config["stopped"]))
    return found


def test_interrupted_trials_come_first_then_new_ones(tmp_path: Path) -> None:
    space, record = make_space(trials=6), SearchRecord(str(tmp_path), "search")
    undisturbed: dict[int, TrialRecord] = {}
    all_settings = settings_of(RecordedSearch(space, record, undisturbed))
    assert [number for number, _, _ in all_settings] == [1, 2, 3, 4, 5, 6]
    assert record.read_trials(space) == list(undisturbed.values()), "each is recorded before it runs"

    other = SearchRecord(str(tmp_path), "interrupted")
    ended = [make_trial(1, [0.5]), make_trial(2, [0.4], "running"), make_trial(3, [0.1], "stopped")]
    ended += [make_trial(4, [], "refused"), make_trial(5, [], "failed", "its process was lost")]
    other.trial_run(1).write("result.json", b"{}")
    searcher = RecordedSearch(space, other, {trial.number: trial for trial in ended})
    assert searcher.num_left == 4
    resumed = settings_of(searcher)
    assert [(number, stopped) for number, _, stopped in resumed] == [(2, False), (3, True), (5, False), (6, False)]
    assert resumed[3][1] == all_settings[5][1]
    assert (searcher._trials[5].state, searcher._trials[5].message) == ("running", "")
