"""Columns of annotation tables: their names, usual alternative names, and the detection of the delimiter."""

import csv
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

_LABEL_NAMES = ("class", "label_name", "class_name", "classname", "category", "category_name", "action", "action_name",
          "activity", "activity_name", "gesture", "tag")  # fmt: skip
_SPLIT_NAMES = ("subset", "set", "partition", "split_name")

# Column name -> alternative names. Case is ignored, and blanks and hyphens count as underscores.
CSV_COLUMNS: Mapping[str, Sequence[str]] = {
    "path": ("filename", "file_name", "file", "filepath", "file_path", "filenames", "video", "video_path", "videopath",
             "video_file", "video_filename", "video_name", "videoname", "clip", "clip_path", "clip_name", "rel_path",
             "relative_path", "video_id", "clip_id"),
    "label": _LABEL_NAMES,
    "start": ("start_time", "time_start", "start_s", "start_sec", "start_seconds", "t_start", "begin", "begin_time"),
    "end": ("end_time", "time_end", "end_s", "end_sec", "end_seconds", "t_end"),
    "start_frame": ("frame_start", "begin_frame"),
    "end_frame": ("frame_end",),
    "fps": ("frames_per_second", "frame_rate"),
    "labels": ("tags", "classes", "categories"),
    "group": ("group_id", "group_name"),
    "fold": ("fold_id",),
    "split": _SPLIT_NAMES,
    "caption": ("captions",),
}  # fmt: skip
KINETICS_COLUMNS: Mapping[str, Sequence[str]] = {
    "label": (*_LABEL_NAMES, "labels"),
    "youtube_id": ("yt_id", "ytid", "video_id"),
    "time_start": ("start_time", "start"),
    "time_end": ("end_time", "end"),
    "split": _SPLIT_NAMES,
    "is_cc": (),
}
_DELIMITERS = (",", ";", "\t", "|")


class ColumnError(ValueError):
    """A header's columns cannot be identified; the message says why, and the caller adds the place."""


class MatchedColumns(NamedTuple):
    """The identified columns of a table.

    Attributes:
        positions: column name -> number of the column, from 0.
        ignored: the names of all other columns, as written in the file.
    """

    positions: Mapping[str, int]
    ignored: Sequence[str]


def match_columns(
    header: Sequence[str], column_names: Mapping[str, Sequence[str]], required: Iterable[str]
) -> MatchedColumns:
    """Identifies known columns in a header by any of their names; the column's own name takes precedence.

    Raises:
        ColumnError: no column is known, one is missing, one occurs twice, or two match the same name.
    """
    names = [_normalized(name) for name in header]
    if not any(name in _all_names(column_names) for name in names):
        raise ColumnError(
            f"is no line of column names: {_quote_names(header)}; a list begins with one, such as "
            f"{','.join(name for name in column_names if name in (*required, 'split'))}"
        )
    positions: dict[str, int] = {}
    for column, alternatives in column_names.items():
        found = [position for position, name in enumerate(names) if name == column]
        if len(found) > 1:
            raise ColumnError(f"column {column!r} comes {len(found)} times; keep one")
        found = found or [position for position, name in enumerate(names) if name in alternatives]
        if len(found) > 1:
            candidates = " and ".join(repr(header[position].strip()) for position in found)
            raise ColumnError(f"the columns {candidates} could all be the {column}; call the right one {column}")
        if found:
            positions[column] = found[0]
    missing = [column for column in required if column not in positions]
    if missing:
        guesses = [name for column in missing for name in misspellings_of(column, header, column_names)]
        hint = f"; did you mean {_quote_names(guesses[:1])}?" if guesses else ""
        if missing == ["label"] and not guesses:
            hint = "; official test lists without labels cannot be used"
        present = f"; there are {_quote_names(header)}"
        raise ColumnError(f"no column {', '.join(map(repr, missing))}{present}; add it or name one so{hint}")
    return MatchedColumns(
        positions, [name.strip() for position, name in enumerate(header) if position not in positions.values()]
    )


def misspellings_of(column: str, header: Sequence[str], column_names: Mapping[str, Sequence[str]]) -> list[str]:
    """The unknown names in a header that look like a column misspelled; [] if the header has the column.

    >>> misspellings_of("label", ["path", "lable", "notes", "klass"], CSV_COLUMNS)
    ['lable', 'klass']
    """
    if has_columns(header, column_names, (column,)):
        return []
    unknown = [name for name in header if _normalized(name) not in _all_names(column_names)]
    spellings = (column, *column_names[column])
    return [name for name in unknown if difflib.get_close_matches(_normalized(name), spellings, 1, 0.75)]


def has_columns(header: Sequence[str], column_names: Mapping[str, Sequence[str]], columns: Iterable[str]) -> bool:
    """Whether a header has all the given known columns, under any of their names."""
    names = {_normalized(name) for name in header}
    return all(names & {column, *column_names[column]} for column in columns)


def find_delimiter(line: str, *column_names: Mapping[str, Sequence[str]]) -> str:
    """The delimiter of a header: the one that gives most known names, a comma if none does."""
    names = {name for columns in column_names for name in _all_names(columns)}

    def count(delimiter: str) -> int:
        return sum(_normalized(cell) in names for cell in split_cells(line, delimiter))

    return max(_DELIMITERS, key=count)


def split_cells(line: str, delimiter: str) -> list[str]:
    """Splits one line into its values."""
    return next(csv.reader([line], delimiter=delimiter), [])


def describe_ignored(columns: MatchedColumns, column_names: Mapping[str, Sequence[str]]) -> str:
    """A sentence that lists the columns not read; empty if all are."""
    if not columns.ignored:
        return ""
    close_matches = {
        name: difflib.get_close_matches(_normalized(name), column_names, 1, 0.75) for name in columns.ignored
    }
    hints = [f"; {name!r} looks like {close[0]!r} misspelled" for name, close in close_matches.items() if close]
    noun = "column" if len(columns.ignored) == 1 else "columns"
    return f"{noun} {_quote_names(columns.ignored)} {'is' if noun == 'column' else 'are'} not read{''.join(hints)}"


def _all_names(column_names: Mapping[str, Sequence[str]]) -> set[str]:
    return {name for column, alternatives in column_names.items() for name in (column, *alternatives)}


def _normalized(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _quote_names(names: Sequence[str], limit: int = 8) -> str:
    """Names in quotes, on one line; long names and all after the eighth are truncated."""
    shortened = [name.strip() if len(name) <= 60 else f"{name.strip()[:57]}..." for name in names[:limit]]
    return ", ".join(repr(name) if name else "one without a name" for name in shortened) + (
        ", ..." if len(names) > limit else ""
    )
