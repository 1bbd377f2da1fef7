"""Table of the trials of a search, the best first: as text, as trials.csv and as the page trials.html."""

import csv
import io
from collections.abc import Sequence

from jobs.spec.search_space import SearchSpace
from jobs.storage.search_record import SearchRecord, TrialRecord, rank_trials
from pipeline.report.trials_page import Axis, PageTrial, draw_trials_page, format_metric, format_setting

CSV_FILE, PAGE_FILE = "trials.csv", "trials.html"


def write_tables(record: SearchRecord, trials: Sequence[TrialRecord], space: SearchSpace) -> None:
    """Write trials.csv and trials.html to the search's folder."""
    record.run.write(CSV_FILE, format_csv(trials, space).encode())
    record.run.write(PAGE_FILE, _draw_page(record, trials, space).encode())


def format_csv(trials: Sequence[TrialRecord], space: SearchSpace) -> str:
    """The table as CSV: a row a trial, the best first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["rank", "trial", "state", space.metric, "epoch", "epochs", *space.parameters, "message"])
    for rank, trial in enumerate(rank_trials(trials, space), start=1):
        best = trial.best_report(space)
        measured = ["", ""] if best is None else [best.metrics[space.metric], best.epoch]
        settings = [trial.settings[name] for name in space.parameters]
        writer.writerow([rank, trial.number, trial.state, *measured, num_epochs(trial), *settings, trial.message])
    return text.getvalue()


def describe_search(record: SearchRecord, trials: Sequence[TrialRecord], space: SearchSpace) -> list[str]:
    """Lines of text: the table, the best checkpoint and the command that evaluates it."""
    ranked = rank_trials(trials, space)
    rows = [["trial", "state", space.metric, "epochs", *map(_short_name, space.parameters)]]
    rows += [_text_row(trial, space) for trial in ranked]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [
        f"trial {trial.number} {trial.state}: {trial.message}"
        for trial in ranked
        if trial.state in ("refused", "failed")
    ]
    return [*lines, *_describe_best(record, ranked, space)]


def count_states(trials: Sequence[TrialRecord], space: SearchSpace) -> str:
    """The numbers of trials by state, such as `3 finished, 1 stopped of 16`."""
    states = [trial.state for trial in trials]
    counts = [f"{states.count(state)} {state}" for state in dict.fromkeys(states)]
    return f"{', '.join(counts) or 'none begun'} of {space.num_trials}"


def num_epochs(trial: TrialRecord) -> int:
    """The number of epochs that a trial has done, by its validations."""
    return trial.reports[-1].epoch if trial.reports else 0


def _describe_best(record: SearchRecord, ranked: Sequence[TrialRecord], space: SearchSpace) -> list[str]:
    lines = [f"page: {record.run.address}/{PAGE_FILE}"]
    if not ranked or ranked[0].best_report(space) is None:
        return [*lines, f"no trial has measured {space.metric}"]
    checkpoint = f"{record.trials_path}/{ranked[0].name}/best.ckpt"
    evaluate = f"python -m pipeline evaluate --checkpoint {checkpoint} --data DATA --split test --out OUT"
    return [*lines, f"best checkpoint: {checkpoint}", f"to evaluate it: {evaluate}"]


def _text_row(trial: TrialRecord, space: SearchSpace) -> list[str]:
    settings = [format_setting(trial.settings[name]) for name in space.parameters]
    return [str(trial.number), trial.state, format_metric(trial.best_value(space)), str(num_epochs(trial)), *settings]


def _short_name(option: str) -> str:
    return option.removeprefix("model.init_args.").removeprefix("data.init_args.")


def _draw_page(record: SearchRecord, trials: Sequence[TrialRecord], space: SearchSpace) -> str:
    axes = [
        Axis(_short_name(name), None if each.kind == "choice" else tuple(each.values[:2]), each.is_log)
        for name, each in space.parameters.items()
    ]
    shown = [
        PageTrial(
            number=trial.number,
            state=trial.state,
            value=trial.best_value(space),
            epochs=num_epochs(trial),
            settings=[trial.settings[name] for name in space.parameters],
            message=trial.message,
        )
        for trial in rank_trials(trials, space)
    ]
    return draw_trials_page(record.run.name, space.metric, count_states(trials, space), axes, shown)
