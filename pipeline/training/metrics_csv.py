"""metrics.csv: one row per logged step, which survives kills and restarts of the run.

Lightning's CSVLogger empties an existing file when a run starts, buffers a hundred steps and rewrites the file in
place. Here a row is written at once and completed in place; to add a column, or to drop rows of steps that are repeated
after a resume, the whole file is replaced atomically.
"""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.storage.atomic_write import write_atomically

METRICS_NAME = "metrics.csv"
FIRST_COLUMNS = ("step", "epoch", "samples", "seconds", "attempt")

MetricsRow = dict[str, str]


def read_metrics(path: Path) -> list[MetricsRow]:
    """Reads the rows of a metrics.csv, sorted by step, each step once; empty if the file does not exist.

    A truncated last line and damaged lines are skipped. Of two rows with the same step the later one counts.
    """
    return _read_table(path)[1]


def _read_table(path: Path) -> tuple[list[str], list[MetricsRow]]:
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return [], []
    whole = text[: text.rfind("\n") + 1].replace("\0", "")
    lines = csv.reader(io.StringIO(whole, newline=""))
    header = next(lines, [])
    rows: dict[int, MetricsRow] = {}
    for values in lines:
        row = dict(zip(header, values, strict=False))
        if len(values) == len(header) and row.get("step", "").isdecimal():
            rows[int(row["step"])] = row
    return header, [rows[step] for step in sorted(rows)]


class MetricsFile:
    """Writer of a metrics.csv, to which rows are added in the order of their steps.

    Args:
        path: the path of the file; its folder is created.
        after: the step that the run resumes at; rows of later steps are dropped, because those steps are repeated.

    Attributes:
        dropped: number of dropped rows.
    """

    def __init__(self, path: Path, after: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        header, rows = _read_table(path)
        kept_rows = [row for row in rows if int(row["step"]) <= after]
        self.dropped = len(rows) - len(kept_rows)
        self._header = _order_columns({*FIRST_COLUMNS, *header})
        self._row: MetricsRow = {}
        self._write_whole(kept_rows)

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Adds values to the row of a step, which is the last row or a new one; written at once, without fsync.

        Args:
            step: number of optimizer steps done.
            values: values by column name; a new column is added to the table.
        """
        row = {name: _format_value(value) for name, value in values.items()} | {"step": str(step)}
        if self._row.get("step") == str(step):
            row = self._row | row
        else:
            self._start = self.path.stat().st_size
        self._row = row
        new_columns = row.keys() - set(self._header)
        if new_columns:
            self._header = _order_columns({*self._header, *new_columns})
            rows = [one for one in _read_table(self.path)[1] if one["step"] != str(step)]
            self._write_whole([*rows, row])
            return
        self._write_line(self._line(row))

    def _write_line(self, line: bytes) -> None:
        """Overwrites the row's earlier form in one write, so that a kill leaves one form or the other."""
        descriptor = os.open(self.path, os.O_WRONLY)
        try:
            os.pwrite(descriptor, line, self._start)
            os.ftruncate(descriptor, self._start + len(line))
        finally:
            os.close(descriptor)

    def _write_whole(self, rows: list[MetricsRow]) -> None:
        with write_atomically(self.path) as temporary:
            lines = [self._line(dict(zip(self._header, self._header, strict=True))), *map(self._line, rows)]
            temporary.write_bytes(b"".join(lines))
            self._start = sum(map(len, lines[:-1]))  # where the last row begins

    def _line(self, row: MetricsRow) -> bytes:
        buffer = io.StringIO(newline="")
        csv.writer(buffer, lineterminator="\n").writerow([row.get(name, "") for name in self._header])
        return buffer.getvalue().encode()


def _order_columns(names: set[str]) -> list[str]:
    return [*FIRST_COLUMNS, *sorted(names - set(FIRST_COLUMNS))]


def _format_value(value: Any) -> str:
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else f"{value:.7g}"
    return " ".join(str(value).split())
