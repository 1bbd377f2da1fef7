"""Rows of `benchmarks/gpu.py`: goals, the file to which rows are written as they are measured, and the table."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

Met = Literal["yes", "no", ""]


class Goal(NamedTuple):
    """The bound of a measured value.

    Attributes:
        bound: the least or the largest value that meets the goal.
        unit: its unit, for the table; `%` for values that are shares, from 0 to 1.
        at_most: whether `bound` is the largest value, not the least.
        words: the goal in words, where it is no number.
    """

    bound: float
    unit: str = "%"
    at_most: bool = False
    words: str = ""

    def __str__(self) -> str:
        """The goal in words."""
        if self.words:
            return self.words
        number = f"{100 * self.bound:g} %" if self.unit == "%" else f"{self.bound:g} {self.unit}".strip()
        return f"at {'most' if self.at_most else 'least'} {number}"

    def is_met(self, value: float) -> bool:
        """Whether a value meets it."""
        return value <= self.bound if self.at_most else value >= self.bound


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        section: section that measured it.
        question: what was asked.
        goal: the goal in words; empty where there is none.
        result: what was measured, in words; or why it was not.
        met: whether the goal is met; empty where there is none, or no GPU to judge by.
        value: the number that is held against the goal, or that later sections need.
        failed: whether the section ended before it was done; `result` says why.
    """

    section: str
    question: str
    goal: str
    result: str
    met: Met = ""
    value: float | None = None
    failed: bool = False


class Settings(NamedTuple):
    """What a section needs to know.

    Attributes:
        device: `cuda`, or `cpu` to try the script.
        tiny: whether sizes are as small as can be: figures then mean nothing, and no goal is judged.
        out: folder of rows.jsonl and log.txt.
        work: folder of datasets, runs and checkpoints that sections make.
    """

    device: Literal["cuda", "cpu"]
    tiny: bool
    out: Path
    work: Path


class Results:
    """The rows of a section, appended to a file one by one, so that a crash loses none.

    Args:
        settings: the settings of the run.
        section: name of the section.
    """

    def __init__(self, settings: Settings, section: str) -> None:
        self._path = settings.out / "rows.jsonl"
        self._section = section
        self._judges = settings.device == "cuda" and not settings.tiny

    def add(self, question: str, result: str, value: float | None = None, goal: Goal | None = None) -> None:
        """Adds a row.

        Args:
            question: what was asked.
            result: what was measured, in words, with units.
            value: the same as a number, in the unit of the goal.
            goal: the goal, if there is one.
        """
        judged = goal is not None and value is not None and self._judges
        met: Met = "" if not judged else "yes" if goal.is_met(value) else "no"
        self._append(Row(self._section, question, "" if goal is None else str(goal), result, met, value))

    def add_failure(self, reason: str) -> None:
        """Adds the row of a section that ended before it was done."""
        self._append(Row(self._section, f"section {self._section}", "", f"not measured: {reason}", failed=True))

    def value(self, question: str) -> float | None:
        """The number of an earlier row, of any section; None where it was not measured."""
        return next((row.value for row in reversed(read_rows(self._path)) if row.question == question), None)

    def _append(self, row: Row) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row._asdict()) + "\n")


def read_rows(path: Path) -> list[Row]:
    """The rows of a file; a line that was cut off when its process was killed is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            values: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        rows.append(Row(**values))
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [(row.question, row.goal, row.result, row.met) for row in rows]
    cells = [("question", "goal", "result", "met"), ("---",) * 4, *lines]
    return "\n".join(f"| {' | '.join(' '.join(cell.split()).replace('|', '/') for cell in line)} |" for line in cells)
