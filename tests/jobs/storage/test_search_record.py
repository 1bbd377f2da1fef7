"""The record of a search: what is kept, in which order trials rank, what may go on, and the tables."""

import csv
import io
import re
from pathlib import Path

import pytest
import yaml

from jobs.client.run_status import run_progress
from jobs.storage.finished_run import RunFinishedError
from jobs.storage.search_record import SearchRecord, TrialRecord, TrialReport, rank_trials
from jobs.storage.trial_table import describe_search, format_csv, write_tables
from tests.jobs.tuning.made_trials import RATE, make_space, make_trial

TRIALS = [
    make_trial(1, [0.2, 0.6, 0.4]),
    make_trial(2, [], "failed", "Invalid learning rate: <b>-1</b>"),
    make_trial(3, [0.3], "stopped", "stopped by the scheduler at epoch 1"),
    make_trial(4, [0.9], "running"),
]


def stage(folder: Path, text: str = "a: 1", **changes: object) -> tuple[list[str], Path]:
    """The arguments of a search's job, and the folder of its upload."""
    folder.mkdir(exist_ok=True)
    (folder / "space.yaml").write_text(yaml.safe_dump(make_space(**changes).as_dict()))
    (folder / "mine.yaml").write_text(text)
    return ["tune", "--space", "upload:space.yaml", "--", "fit", "--config", "upload:mine.yaml"], folder


def test_a_trial_is_read_as_it_was_written(tmp_path: Path) -> None:
    record, space = SearchRecord(str(tmp_path), "search"), make_space()
    for trial in TRIALS[:3]:
        record.write_trial(trial)
    assert record.read_trials(space) == TRIALS[:3]
    assert (tmp_path / "search/trials/0003/trial.json").is_file()
    (tmp_path / "search/trials/0002/trial.json").write_text("{")
    with pytest.raises(ValueError, match=r"0002/trial.json cannot be read: it is damaged"):
        record.read_trials(space)


def test_a_validation_that_is_repeated_counts_once() -> None:
    trial = TrialRecord(1, {}).with_report(TrialReport(1, 8, {"val/top1": 0.5}, 1.0))
    trial = trial.with_report(TrialReport(2, 16, {"val/top1": 0.7}, 2.0))
    again = trial.with_report(TrialReport(2, 16, {"val/top1": 0.7}, 3.0))
    assert [report.epoch for report in again.reports] == [1, 2]


@pytest.mark.parametrize(("mode", "order"), [("max", [4, 1, 3, 2]), ("min", [1, 3, 4, 2])])
def test_the_best_come_first_and_those_without_a_value_last(mode: str, order: list[int]) -> None:
    space = make_space(mode=mode)
    assert [trial.number for trial in rank_trials(TRIALS, space)] == order
    best = TRIALS[0].best_report(space)
    assert best is not None
    assert best.epoch == (2 if mode == "max" else 1)


def test_only_the_same_search_goes_on(tmp_path: Path) -> None:
    record = SearchRecord(str(tmp_path), "search")
    args, upload = stage(tmp_path / "upload")
    space, command = record.begin(args, upload)
    assert command == ["fit", "--config", "upload:mine.yaml"]
    assert record.begin(*stage(upload, trials=6, concurrent=2))[0].num_trials == 6, "it may grow"
    with pytest.raises(ValueError, match=r"name=search: the search in .* \(parameters, seed\); give this one another"):
        record.check(*stage(upload, seed=1, parameters={RATE: {"uniform": [0, 1]}}))
    with pytest.raises(ValueError, match=r"\(the command or its config\)"):
        record.check(*stage(upload, text="a: 2"))
    record.finish(TRIALS, space)
    with pytest.raises(RunFinishedError) as caught:
        record.check(*stage(upload))
    assert caught.value.lines[1] == f"best checkpoint: {tmp_path}/search/trials/0004/best.ckpt"
    record.check(*stage(upload, trials=5))


def test_the_table_and_the_page_have_all_trials(tmp_path: Path) -> None:
    record, space = SearchRecord(str(tmp_path), "search"), make_space()
    record.begin(*stage(tmp_path / "upload"))
    for trial in TRIALS:
        record.write_trial(trial)
    write_tables(record, TRIALS, space)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "search/trials.csv").read_text())))
    assert [(row["trial"], row["state"], row["val/top1"], row["epochs"]) for row in rows] == [
        ("4", "running", "0.9", "1"),
        ("1", "finished", "0.6", "3"),
        ("3", "stopped", "0.3", "1"),
        ("2", "failed", "", "0"),
    ]
    assert float(rows[0][RATE]) == 0.01 * 3**4
    page = (tmp_path / "search/trials.html").read_text()
    assert page.count("<polyline") == 4
    assert "Invalid learning rate: &lt;b&gt;-1&lt;/b&gt;" in page
    assert not re.search(r"(src|href)=|<script|@import", page), "nothing is fetched"
    lines = describe_search(record, TRIALS, space)
    assert lines[0].split() == ["trial", "state", "val/top1", "epochs", "learning_rate"]
    assert lines[1].split() == ["4", "running", "0.9", "1", "0.81"]
    assert lines[5] == "trial 2 failed: Invalid learning rate: <b>-1</b>"
    assert lines[-1].startswith(
        f"to evaluate it: python -m pipeline evaluate --checkpoint {tmp_path}/search/trials/0004"
    )
    assert run_progress(str(tmp_path), "search")["best"] == "trial 4, val/top1 0.9"
    assert run_progress(str(tmp_path), "search")["trials"] == "1 finished, 1 failed, 1 stopped, 1 running of 4"


def test_a_table_without_values() -> None:
    space = make_space()
    assert format_csv([make_trial(1, [], "running")], space).splitlines()[1].startswith("1,1,running,,,0,")
