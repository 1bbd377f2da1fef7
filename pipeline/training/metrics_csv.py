"""metrics.csv: one row a step, whatever kills the run and however often it is continued.

Lightning's CSVLogger empties its file when a run starts in a folder that has one, writes in bundles of a hundred steps,
and rewrites in place; hence this one. A row is written at once and completed in place; a file that must change as a
whole, for a new column or for rows of steps that are taken again, is written aside and renamed.
"""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.storage.atomic_write import write_atomically

NAME = "metrics.csv"
FIRST_COLUMNS = ("step", "epoch", "samples", "seconds", "attempt")

Row = dict[str, str]


def read_metrics(path: Path) -> list[Row]:
    """The rows of a metrics.csv, by step, each step once; empty where there is no such file.

    A last line that a kill cut off, and lines that are damaged, are passed by. Of two rows of a step the later counts.
    """
    return _read(path)[1]


def _read(path: Path) -> tuple[list[str], list[Row]]:
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return [], []
    whole = text[: text.rfind("\n") + 1].replace("\0", "")
    lines = csv.reader(io.StringIO(whole, newline=""))
    header = next(lines, [])
    rows: dict[int, Row] = {}
    for values in lines:
        row = dict(zip(header, values, strict=False))
        if len(values) == len(header) and row.get("step", "").isdecimal():
            rows[int(row["step"])] = row
    return header, [rows[step] for step in sorted(rows)]


class MetricsFile:
    """Writes a metrics.csv; rows come in the order of their steps.

    Args:
        path: of the file; its folder is made.
        after: the step that the run resumes at; rows of later steps are dropped, for they are taken again.

    Attributes:
        dropped: how many rows that were.
    """

    def __init__(self, path: Path, after: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        header, rows = _read(path)
        kept = [row for row in rows if int(row["step"]) <= after]
        self.dropped = len(rows) - len(kept)
        self._header = _ordered({*FIRST_COLUMNS, *header})
        self._row: Row = {}
        self._write_whole(kept)

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds values to the row of a step, the last one or a later one; they are on their way to the disk then.

        Args:
            step: optimizer steps done.
            values: by column; a column that is new widens the table.
        """
        row = {name: _text(value) for name, value in values.items()} | {"step": str(step)}
        if self._row.get("step") == str(step):
            row = self._row | row
        else:
            self._start = self.path.stat().st_size
        self._row = row
        new = row.keys() - set(self._header)
        if new:
            self._header = _ordered({*self._header, *new})
            rows = [one for one in _read(self.path)[1] if one["step"] != str(step)]
            self._write_whole([*rows, row])
            return
        self._write_line(self._line(row))

    def _write_line(self, line: bytes) -> None:
        """In one call, over the row's earlier form, so that a kill leaves the one or the other."""
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, line, self._start)
            os.ftruncate(descriptor, self._start + len(line))
        finally:
            os.close(descriptor)

    def _write_whole(self, rows: list[Row]) -> None:
        with write_atomically(self.path) as temporary:
            lines = [self._line(dict(zip(self._header, self._header, strict=True))), *map(self._line, rows)]
            temporary.write_bytes(b"".join(lines))
            self._start = sum(map(len, lines[:-1]))  # where the last row begins

    def _line(self, row: Row) -> bytes:
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator="\n").writerow([row.get(name, "") for name in self._header])
        return buffer.getvalue().encode()


def _ordered(names: set[str]) -> list[str]:
    return [*FIRST_COLUMNS, *sorted(names - set(FIRST_COLUMNS))]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else f"{value:.7g}"
    return " ".join(str(value).split())
