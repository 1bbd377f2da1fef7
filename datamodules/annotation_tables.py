"""Lists of videos, checked line by line: every complaint names the file, the line, the value and the way out."""

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.captions import as_captions

SPLIT_NAMES = {"validate": "val", "validation": "val", "valid": "val"}  # other spellings, as in official lists
EMPTY = "is empty; it needs a header and a line for each video"


class AnnotationError(ValueError):
    """A list of videos cannot be read as it is; the message says where and what to do."""


class Row(NamedTuple):
    """One line of a CSV file.

    Attributes:
        file: path of the list.
        line: number of the line (its last, where a quoted value has several), from 1.
        values: column -> value.
    """

    file: str
    line: int
    values: Mapping[str, str]

    def error(self, column: str, fix: str) -> AnnotationError:
        """The complaint about one value, to raise."""
        return AnnotationError(f"{self.file}, line {self.line}: {column}={self.values[column]!r}: {fix}")

    def text(self, column: str) -> str:
        """The value without blanks around it; raises where nothing is left, or what no name has."""
        value = self.values[column].strip()
        if not value:
            raise self.error(column, f"is empty; give every video a {column}")
        if re.search(r"[\x00-\x1f\x7f]", value):
            raise self.error(column, "holds a control character; remove it")
        return value

    def captions(self, column: str) -> tuple[str, ...]:
        """The sentences in the value, which is one or a JSON list of them; raises where the list is none of strings."""
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
        """The value as a time; raises AnnotationError unless it is finite and not negative."""
        value = self.text(column)
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not (math.isfinite(number) and number >= 0):
            raise self.error(column, "must be a number of seconds, 0 or more")
        return number

    def split(self) -> str:
        """The split, under the name that it has here."""
        return split_name(self.text("split"), f"{self.file}, line {self.line}: ")


def split_name(name: str, where: str = "") -> str:
    """The name of a split, "val" for its other spellings; raises AnnotationError where it cannot name shard files."""
    if re.fullmatch(r"\w+", name, re.ASCII) is None:
        raise AnnotationError(f"{where}split={name!r}: must be a word of letters, digits and _")
    return SPLIT_NAMES.get(name, name)


def read_table(path: Path, known: Sequence[str], required: Iterable[str]) -> list[Row]:
    """All lines of a CSV file with a header, or all rows of a Parquet file as text; at least one.

    Args:
        path: UTF-8, with or without a byte order mark; empty lines are skipped. Or Parquet, named so.
        known: the columns that there may be, in any order; upper case and blanks in the header do not matter.
        required: those that there must be.

    Raises:
        AnnotationError: the file is missing, not UTF-8 or not CSV, a column is unknown, repeated or missing, a line has
            more or fewer values than columns, or there is no line.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path, known, required)
    reader = csv.reader(io.StringIO(_read_text(path), newline=""), strict=True)
    rows: list[Row] = []
    header: list[str] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip().lower() for cell in cells]
                _check_header(f"{path}, line {reader.line_num}", header, known, required)
            elif len(cells) != len(header):
                raise AnnotationError(
                    f"{path}, line {reader.line_num}: has {len(cells)} values for {len(header)} columns; "
                    "quote values that contain a comma"
                )
            else:
                rows.append(Row(str(path), reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise AnnotationError(f"{path}, line {reader.line_num}: is not valid CSV ({error}); check the quotes") from None
    if not rows:
        raise AnnotationError(f"{path}: {'lists no video; it needs a line for each video' if header else EMPTY}")
    return rows


def read_header(path: Path) -> list[str]:
    """The names of the columns, in lower case; [] for an empty file."""
    if path.suffix == ".parquet":
        return [name.strip().lower() for name in _open_parquet(path).schema.names]
    for line in _read_text(path).splitlines():
        if line.strip():
            return [cell.strip().lower() for cell in next(csv.reader([line]))]
    return []


def read_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, stripped, each with its number from 1; at least one.

    Raises:
        AnnotationError: the file is missing, not UTF-8 or empty.
    """
    lines = [(number, line.strip()) for number, line in enumerate(_read_text(path).split("\n"), 1) if line.strip()]
    if not lines:
        raise AnnotationError(f"{path}: is empty; it needs a line for each entry")
    return lines


def refuse_repeats(values: Iterable[str], rows: Sequence[Row], what: str) -> None:
    """Raise AnnotationError, naming both lines, where two rows have the same value."""
    first: dict[str, Row] = {}
    for value, row in zip(values, rows, strict=True):
        before = first.setdefault(value, row)
        if before is not row:
            raise AnnotationError(
                f"{row.file}, line {row.line}: {what} {value!r} is already in {before.file}, line {before.line}; "
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


def _read_parquet(path: Path, known: Sequence[str], required: Iterable[str]) -> list[Row]:
    table = _open_parquet(path)
    header = [name.strip().lower() for name in table.schema.names]
    _check_header(str(path), header, known, required)
    if not table.num_rows:
        raise AnnotationError(f"{path}: lists no video; it needs a row for each video")
    columns = [[_as_text(value) for value in column.to_pylist()] for column in table.columns]
    rows = enumerate(zip(*columns, strict=True), 1)
    return [Row(str(path), number, dict(zip(header, values, strict=True))) for number, values in rows]


def _as_text(value: object) -> str:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise AnnotationError(f"{path}: there is no such file; check the path of the list") from None
    except OSError as error:
        raise AnnotationError(f"{path}: cannot be read ({error.strerror}); name a file with a list") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        value = error.object[error.start : error.start + 1]
        raise AnnotationError(f"{path}, line {line}: {value!r} is not UTF-8; save the list as UTF-8") from None


def _check_header(where: str, header: list[str], known: Sequence[str], required: Iterable[str]) -> None:
    for column, count in Counter(header).items():
        if column not in known:
            raise AnnotationError(f"{where}: unknown column {column!r}; known are {', '.join(known)}")
        if count > 1:
            raise AnnotationError(f"{where}: column {column!r} comes {count} times; keep one")
    missing = [column for column in required if column not in header]
    if missing:
        hint = "; official test lists without labels cannot be used" if missing == ["label"] else ""
        raise AnnotationError(f"{where}: no column {', '.join(map(repr, missing))}; add it{hint}")
