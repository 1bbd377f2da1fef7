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
    CSV_COLUMNS,
    KINETICS_COLUMNS,
    ColumnError,
    MatchedColumns,
    describe_ignored,
    find_delimiter,
    match_columns,
    split_cells,
)
from datamodules.annotations.list_text import AnnotationError, read_table_text
from datamodules.annotations.records import agree_on_split, as_captions, normalize_split

__all__ = [
    "EMPTY_LIST",
    "AnnotationError",
    "AnnotationRow",
    "AnnotationTable",
    "read_header",
    "read_lines",
    "read_table",
]

_LINE_END = re.compile(r"\r\n|\r|\n")
EMPTY_LIST = "is empty; it needs a header and a line for each video"


class AnnotationRow(NamedTuple):
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
            sentences = json.loads(value)
        except ValueError:
            sentences = [None]
        if not all(isinstance(sentence, str) for sentence in sentences):
            raise self.error(column, 'must be one sentence, or several as a JSON list: ["a man runs", "running"]')
        return as_captions(sentences)

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

    def split(self, given: str | None = None) -> str:
        """The split, under its standard name: that in the column, or the given one of all videos.

        Raises:
            AnnotationError: there is none, or the two differ.
        """
        if given is not None and not self.values.get("split", "").strip():
            return given
        location = f"{self.file}, line {self.line}"
        own = normalize_split(self.text("split"), f"{location}: ")
        return agree_on_split(own, given, location, "remove the column split")


class AnnotationTable(NamedTuple):
    """A table's rows, at least one.

    Attributes:
        rows: the rows, with the known columns of the table.
        note: a sentence that lists the columns not read; empty if all are.
    """

    rows: list[AnnotationRow]
    note: str


def read_table(path: Path, column_names: Mapping[str, Sequence[str]], required: Iterable[str]) -> AnnotationTable:
    """Reads all lines of a CSV file with a header, or all rows of a Parquet file as text; at least one.

    Args:
        path: a CSV file in UTF-8, or UTF-16 with a byte order mark; values separated by commas, semicolons, tabs or |;
            empty lines are skipped. Or a file ending in .parquet.
        column_names: column name -> alternative names; columns may be in any order, unknown columns are not read.
        required: columns that must be present.

    Raises:
        AnnotationError: the file is missing, not text or not CSV, a column is repeated, ambiguous or missing, a line
            has more or fewer values than columns, or there is no line.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path, column_names, required)
    text = read_table_text(path)
    header_line, delimiter = _find_header(text)
    if header_line is None:
        raise AnnotationError(f"{path}: {EMPTY_LIST}")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows: list[AnnotationRow] = []
    columns: MatchedColumns | None = None
    width = 0
    try:
        for cells in reader:
            if reader.line_num < header_line or not any(cell.strip() for cell in cells):
                continue
            location = f"{path}, line {reader.line_num}"
            if columns is None:
                width, columns = len(cells), _match_columns(location, cells, column_names, required)
                continue
            if len(cells) != width:
                cells = _check_width(location, cells, width, delimiter)
            rows.append(
                AnnotationRow(
                    str(path), reader.line_num, {name: cells[position] for name, position in columns.positions.items()}
                )
            )
    except csv.Error as error:
        raise AnnotationError(f"{path}, line {reader.line_num}: is not valid CSV ({error}); check the quotes") from None
    if not rows or columns is None:
        raise AnnotationError(f"{path}: lists no video; it needs a line for each video")
    return AnnotationTable(rows, _describe_ignored_columns(path, columns, column_names))


def read_header(path: Path) -> list[str]:
    """The names of the columns as written in the file; [] for an empty file."""
    if path.suffix == ".parquet":
        return list(_open_parquet(path).schema.names)
    text = read_table_text(path)
    header_line, delimiter = _find_header(text)
    if header_line is None:
        return []
    line = next(islice(io.StringIO(text, newline=""), header_line - 1, None))
    return [cell.strip() for cell in split_cells(line, delimiter)]


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The non-blank lines of a text file, stripped, with their numbers from 1; at least one.

    Raises:
        AnnotationError: the file is missing, not UTF-8 or empty.
    """
    lines = [
        (number, line.strip()) for number, line in enumerate(_LINE_END.split(read_table_text(path)), 1) if line.strip()
    ]
    if not lines:
        raise AnnotationError(f"{path}: is empty; it needs a line for each entry")
    return lines


def refuse_repeats(values: Iterable[str], rows: Sequence[AnnotationRow], noun: str, alternative: str = "") -> None:
    """Raises AnnotationError if two rows have the same value; names both lines and the number of further repeats."""
    first_rows: dict[str, AnnotationRow] = {}
    repeats = [
        (value, row, first_rows[value])
        for value, row in zip(values, rows, strict=True)
        if first_rows.setdefault(value, row) is not row
    ]
    if repeats:
        value, row, earlier = repeats[0]
        count = f" (such lines: {len(repeats)})" if len(repeats) > 1 else ""
        raise AnnotationError(
            f"{row.file}, line {row.line}: {noun} {value!r} is already in {earlier.file}, line {earlier.line}{count}; "
            f"keep one of the two lines{alternative}"
        )


def _open_parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path, partitioning=None)
    except FileNotFoundError:
        raise AnnotationError(f"{path}: there is no such file; check the path of the list") from None
    except (OSError, pa.ArrowException) as error:
        cause = str(error).splitlines()[0]
        raise AnnotationError(f"{path}: cannot be read as Parquet ({cause}); save the list again") from None


def _read_parquet(path: Path, column_names: Mapping[str, Sequence[str]], required: Iterable[str]) -> AnnotationTable:
    table = _open_parquet(path)
    columns = _match_columns(str(path), table.schema.names, column_names, required)
    if not table.num_rows:
        raise AnnotationError(f"{path}: lists no video; it needs a row for each video")
    values = [
        [_as_text(value) for value in table.column(position).to_pylist()] for position in columns.positions.values()
    ]
    rows = [
        AnnotationRow(str(path), number, dict(zip(columns.positions, cells, strict=True)))
        for number, cells in enumerate(zip(*values, strict=True), 1)
    ]
    return AnnotationTable(rows, _describe_ignored_columns(path, columns, column_names))


def _as_text(value: object) -> str:
    if value is None or value != value:  # NaN: pandas' missing value
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas makes floats of integers where some are missing
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def _find_header(text: str) -> tuple[int | None, str]:
    """The line number of the header, None if all lines are blank, and the delimiter.

    A first line `sep=;`, as spreadsheets write it, states the delimiter.
    """
    declared = ""
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if number == 1 and re.fullmatch(r"sep=.", line.strip("\r\n")):
            declared = line[4]
        elif line.strip():
            return number, declared or find_delimiter(line, CSV_COLUMNS, KINETICS_COLUMNS)
    return None, ","


def _match_columns(
    location: str, header: Sequence[str], column_names: Mapping[str, Sequence[str]], required: Iterable[str]
) -> MatchedColumns:
    try:
        return match_columns(header, column_names, required)
    except ColumnError as error:
        raise AnnotationError(f"{location}: {error}") from None


def _check_width(location: str, cells: list[str], width: int, delimiter: str) -> list[str]:
    """A line's values, without empty ones beyond the last column."""
    if len(cells) > width and not any(cell.strip() for cell in cells[width:]):
        return cells[:width]
    name = {",": "a comma", ";": "a semicolon", "\t": "a tab"}.get(delimiter, repr(delimiter))
    fix = f"quote values that contain {name}" if len(cells) > width else "give it one for each"
    raise AnnotationError(f"{location}: has {len(cells)} values for {width} columns; {fix}")


def _describe_ignored_columns(path: Path, columns: MatchedColumns, column_names: Mapping[str, Sequence[str]]) -> str:
    sentence = describe_ignored(columns, column_names)
    return sentence and f"{path}: {sentence}"
