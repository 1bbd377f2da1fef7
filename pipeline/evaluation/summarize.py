"""`python -m pipeline summarize`: table of the accuracies of several reports."""

import json
from pathlib import Path
from typing import Any

from pipeline.cli.terminal import print_text
from pipeline.cli.text_table import TextTable, print_table
from pipeline.metrics.accuracy import headline_figures


def summarize(reports: list[str], paths: list[str] | None = None) -> None:
    """Print the accuracies of several reports in one table, beside chance.

    Args:
        reports: NAME=FILE for each row, report.json files that `evaluate` or `linear` wrote.
        paths: NAME=PATH, printed below the table; each must exist.

    Raises:
        FileNotFoundError: a report or a path does not exist.
        ValueError: not of the form NAME=FILE, or not a report.
    """
    rows = [(name, _read_report(path)) for name, path in map(_parse_pair, reports)]
    named_paths = [_parse_pair(text) for text in paths or []]
    for name, path in named_paths:
        if not path.exists():
            raise FileNotFoundError(f"{name}={path}: there is no such file or folder")
    figures = {name: heading for _, report in rows for name, heading in headline_figures(report).items()}
    figures["chance"] = "chance"
    table = TextTable("", *figures.values(), "videos")
    for name, report in rows:
        shares = [f"{report[figure]:.1%}" if figure in report else "" for figure in figures]
        table.add_row(name, *shares, str(report["num_videos"]))
    print_table(table)
    width = max((len(name) for name, _ in named_paths), default=0)
    for name, path in named_paths:
        print_text(f"{name:<{width}}  {path}")


def _parse_pair(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise ValueError(f"{text!r}: write NAME=FILE")
    return name, Path(path)


def _read_report(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"report {str(path)!r}: there is no such file")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"report {str(path)!r} is not JSON: {error}") from error
    missing = {*headline_figures(report), "chance", "num_videos"} - set(report)
    if missing:
        raise ValueError(
            f"report {str(path)!r} has no {', '.join(sorted(missing))}: `evaluate` and `linear` write them"
        )
    return dict(report)
