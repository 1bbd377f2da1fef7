"""Tables of videos, checked line by line: every error names the file, the line, the value and the fix."""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.annotations.columns import (
    KINETICS_COLUMNS,
    PLAIN_COLUMNS,
    ColumnError,
    Columns,
    describe_ignored,
    find_delimiter,
    match_columns,
    split_cells,
)
from datamodules.annotations.list_text import AnnotationError, read_text
from datamodules.annotations.records import as_captions

__all__ = ["EMPTY", "SPLIT_NAMES", "AnnotationError", "Row", "Table", "read_header", "read_lines", "read_table"]

# Other spellings of the three, in lower case. `eval` is not included: it is the test split of some data sets, and the
# val split of others.
SPLIT_NAMES = {
    **{name: name for name in ("train", "val", "test")},
    **dict.fromkeys(("training", "trn"), "train"),
    **dict.fromkeys(("validate", "validation", "valid", "validating", "dev", "development"), "val"),
    **dict.fromkeys(("testing", "tst"), "test"),
}
_LINE_END = re.compile(r"\r\n|\r|\n")
EMPTY = "is empty; it needs a header and a line for each video"


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        file: path of the list.
        line: line number from 1; of a quoted value over several lines, the last.
        values: column -> value.
    """

    file: str
    line: int
    values: Mapping[str, str]

    def error(self, column: str, fix: str) -> AnnotationError:
        """Constructs the error about one value, to raise."""
        return AnnotationError(f"{self.file}, line {self.line}: {column}={self.values[column]!r}: {fix}")

    def text(self, column: str) -> str:
        """The value stripped of blanks; raises if it is empty or has characters that names cannot have."""
        value = self.values[column].strip()
        if not value:
            raise self.error(column, f"is empty; give every video a {column}")
        if re.search(r"[\x00-\x1f\x7f]", value):
            raise self.error(column, "holds a control character; remove it")
        return value

    def captions(self, column: str) -> tuple[str, ...]:
        """The sentences in the value, one or a JSON list; raises if the list is not of strings."""
        value = self.values[column].strip()
        if not (value.startswith("[") and value.endswith("]")):
            return as_captions(value)
        try:
            several = json.loads(value)
        except ValueError:
            several = [None]
        if not all(isinstance(one, str) for one in several):
            raise self.error(column, 'must be one sentence, or several as a JSON list: ["a man runs", "running"]')
        return as_captions(several)

    def seconds(self, column: str) -> float:
        """The value as seconds; raises AnnotationError unless it is finite and not negative."""
        value = self.text(column)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= 0):
            raise self.error(column, "must be a number of seconds, 0 or more")
        return number

    def split(self) -> str:
        """The split, under its standard name."""
        return split_name(self.text("split"), f"{self.file}, line {self.line}: ")


def split_name(name: str, where: str = "") -> str:
    """The name of a split, "val" for its other spellings; raises AnnotationError if it cannot be in file names."""
    if re.fullmatch(r"\w+", name, re.ASCII) is None:
        raise AnnotationError(f"{where}split={name!r}: must be a word of letters, digits and _")
    return usual_split(name)


def usual_split(name: str) -> str:
    """train, val or test for their other spellings, in any case; other names unchanged.

    >>> usual_split("Validation"), usual_split("TEST"), usual_split("Extra")
    ('val', 'test', 'Extra')
    """
    return SPLIT_NAMES.get(name.lower(), name)


class Table(NamedTuple):
    """A table's rows, at least one.

    Attributes:
        rows: the rows, with the known columns of the table.
        note: a sentence that lists the columns not read; empty if all are.
    """

    rows: list[Row]
    note: str


def read_table(path: Path, known: Mapping[str, Sequence[str]], required: Iterable[str]) -> Table:
    """Reads all lines of a CSV file with a header, or all rows of a Parquet file as text; at least one.

    Args:
        path: a CSV file in UTF-8, or UTF-16 with a byte order mark; values separated by commas, semicolons, tabs or |;
            empty lines are skipped. Or a file ending in .parquet.
        known: column name -> alternative names; columns may be in any order, unknown columns are not read.
        required: columns that must be present.

    Raises:
        AnnotationError: the file is missing, not text or not CSV, a column is repeated, ambiguous or missing, a line
            has more or fewer values than columns, or there is no line.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path, known, required)
    text = read_text(path)
    head, delimiter = _header_line(text)
    if head is None:
        raise AnnotationError(f"{path}: {EMPTY}")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows: list[Row] = []
    columns: Columns | None = None
    width = 0
    try:
        for cells in reader:
            if reader.line_num < head or not any(cell.strip() for cell in cells):
                continue
            where = f"{path}, line {reader.line_num}"
            if columns is None:
                width, columns = len(cells), _match(where, cells, known, required)
                continue
            if len(cells) != width:
                cells = _fit(where, cells, width, delimiter)
            rows.append(Row(str(path), reader.line_num, {name: cells[at] for name, at in columns.places.items()}))
    except csv.Error as error:
        raise AnnotationError(f"{path}, line {reader.line_num}: is not valid CSV ({error}); check the quotes") from None
    if not rows or columns is None:
        raise AnnotationError(f"{path}: lists no video; it needs a line for each video")
    return Table(rows, _note(path, columns, known))


def read_header(path: Path) -> list[str]:
    """The names of the columns as written in the file; [] for an empty file."""
    if path.suffix == ".parquet":
        return list(_open_parquet(path).schema.names)
    text = read_text(path)
    head, delimiter = _header_line(text)
    if head is None:
        return []
    line = next(islice(io.StringIO(text, newline=""), head - 1, None))
    return [cell.strip() for cell in split_cells(line, delimiter)]


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The non-blank lines of a text file, stripped, with their numbers from 1; at least one.

    Raises:
        AnnotationError: the file is missing, not UTF-8 or empty.
    """
    lines = [(number, line.strip()) for number, line in enumerate(_LINE_END.split(read_text(path)), 1) if line.strip()]
    if not lines:
        raise AnnotationError(f"{path}: is empty; it needs a line for each entry")
    return lines


def refuse_repeats(values: Iterable[str], rows: Sequence[Row], what: str) -> None:
    """Raises AnnotationError if two rows have the same value; names both lines and the number of further repeats."""
    first: dict[str, Row] = {}
    repeats = [
        (value, row, first[value])
        for value, row in zip(values, rows, strict=True)
        if first.setdefault(value, row) is not row
    ]
    if repeats:
        value, row, before = repeats[0]
        more = f" (such lines: {len(repeats)})" if len(repeats) > 1 else ""
        raise AnnotationError(
            f"{row.file}, line {row.line}: {what} {value!r} is already in {before.file}, line {before.line}{more}; "
            "keep one of the two lines"
        )


def _open_parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise AnnotationError(f"{path}: there is no such file; check the path of the list") from None
    except (OSError, pa.ArrowException) as error:
        cause = str(error).splitlines()[0]
        raise AnnotationError(f"{path}: cannot be read as Parquet ({cause}); save the list again") from None


def _read_parquet(path: Path, known: Mapping[str, Sequence[str]], required: Iterable[str]) -> Table:
    table = _open_parquet(path)
    columns = _match(str(path), table.schema.names, known, required)
    if not table.num_rows:
        raise AnnotationError(f"{path}: lists no video; it needs a row for each video")
    values = [[_as_text(value) for value in table.column(at).to_pylist()] for at in columns.places.values()]
    rows = [
        Row(str(path), number, dict(zip(columns.places, cells, strict=True)))
        for number, cells in enumerate(zip(*values, strict=True), 1)
    ]
    return Table(rows, _note(path, columns, known))


def _as_text(value: object) -> str:
    if value is None or value != value:  # NaN: pandas' missing value
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas makes floats of integers where some are missing
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def _header_line(text: str) -> tuple[int | None, str]:
    """The line number of the header, None if all lines are blank, and the delimiter.

    A first line `sep=;`, as spreadsheets write it, states the delimiter.
    """
    told = ""
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if number == 1 and re.fullmatch(r"sep=.", line.strip("\r\n")):
            told = line[4]
        elif line.strip():
            return number, told or find_delimiter(line, PLAIN_COLUMNS, KINETICS_COLUMNS)
    return None, ","


def _match(where: str, header: Sequence[str], known: Mapping[str, Sequence[str]], required: Iterable[str]) -> Columns:
    try:
        return match_columns(header, known, required)
    except ColumnError as error:
        raise AnnotationError(f"{where}: {error}") from None


def _fit(where: str, cells: list[str], width: int, delimiter: str) -> list[str]:
    """A line's values, without empty ones beyond the last column."""
    if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
        return cells[:width]
    name = {",": "a comma", ";": "a semicolon", "\t": "a tab"}.get(delimiter, repr(delimiter))
    fix = f"quote values that contain {name}" if len(cells) > width else "give it one for each"
    raise AnnotationError(f"{where}: has {len(cells)} values for {width} columns; {fix}")


def _note(path: Path, columns: Columns, known: Mapping[str, Sequence[str]]) -> str:
    told = describe_ignored(columns, known)
    return told and f"{path}: {told}"
