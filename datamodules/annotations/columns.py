"""Columns of annotation tables: their names, usual alternative names, and the detection of the delimiter."""

import csv
import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

_LABEL = ("class", "label_name", "class_name", "classname", "category", "category_name", "action", "action_name",
          "activity", "activity_name", "gesture", "labels", "tag")  # fmt: skip
_SPLIT = ("subset", "set", "partition", "split_name")

# Column name -> alternative names. Case is ignored, and blanks and hyphens count as underscores.
PLAIN_COLUMNS: Mapping[str, Sequence[str]] = {
    "path": ("filename", "file_name", "file", "filepath", "file_path", "filenames", "video", "video_path", "videopath",
             "video_file", "video_filename", "video_name", "videoname", "clip", "clip_path", "clip_name", "rel_path",
             "relative_path", "video_id", "clip_id"),
    "label": _LABEL,
    "group": ("group_id", "group_name"),
    "fold": ("fold_id",),
    "split": _SPLIT,
    "caption": ("captions",),
}  # fmt: skip
KINETICS_COLUMNS: Mapping[str, Sequence[str]] = {
    "label": _LABEL,
    "youtube_id": ("yt_id", "ytid", "video_id"),
    "time_start": ("start_time", "start"),
    "time_end": ("end_time", "end"),
    "split": _SPLIT,
    "is_cc": (),
}
_DELIMITERS = (",", ";", "\t", "|")


class ColumnError(ValueError):
    """A header's columns cannot be identified; the message says why, and the caller adds the place."""


class Columns(NamedTuple):
    """The identified columns of a table.

    Attributes:
        places: column name -> number of the column, from 0.
        ignored: the names of all other columns, as written in the file.
    """

    places: Mapping[str, int]
    ignored: Sequence[str]


def match_columns(header: Sequence[str], known: Mapping[str, Sequence[str]], required: Iterable[str]) -> Columns:
    """Identifies known columns in a header by any of their names; the column's own name takes precedence.

    Raises:
        ColumnError: no column is known, one is missing, one occurs twice, or two match the same name.
    """
    names = [_normalized(name) for name in header]
    if not any(name in _all_names(known) for name in names):
        raise ColumnError(
            f"is no line of column names: {_shown(header)}; a list begins with one, such as "
            f"{','.join(name for name in known if name in (*required, 'split'))}"
        )
    places: dict[str, int] = {}
    for column, others in known.items():
        found = [place for place, name in enumerate(names) if name == column]
        if len(found) > 1:
            raise ColumnError(f"column {column!r} comes {len(found)} times; keep one")
        found = found or [place for place, name in enumerate(names) if name in others]
        if len(found) > 1:
            could = " and ".join(repr(header[place].strip()) for place in found)
            raise ColumnError(f"the columns {could} could all be the {column}; call the right one {column}")
        if found:
            places[column] = found[0]
    missing = [column for column in required if column not in places]
    if missing:
        hint = "; official test lists without labels cannot be used" if missing == ["label"] else ""
        there = f"; there are {_shown(header)}"
        raise ColumnError(f"no column {', '.join(map(repr, missing))}{there}; add it or name one so{hint}")
    return Columns(places, [name.strip() for place, name in enumerate(header) if place not in places.values()])


def has_columns(header: Sequence[str], known: Mapping[str, Sequence[str]], columns: Iterable[str]) -> bool:
    """Whether a header has all the given known columns, under any of their names."""
    names = {_normalized(name) for name in header}
    return all(names & {column, *known[column]} for column in columns)


def find_delimiter(line: str, *known: Mapping[str, Sequence[str]]) -> str:
    """The delimiter of a header: the one that gives most known names, a comma if none does."""
    names = {name for columns in known for name in _all_names(columns)}

    def count(delimiter: str) -> int:
        return sum(_normalized(cell) in names for cell in split_cells(line, delimiter))

    return max(_DELIMITERS, key=count)


def split_cells(line: str, delimiter: str) -> list[str]:
    """Splits one line into its values."""
    return next(csv.reader([line], delimiter=delimiter), [])


def describe_ignored(columns: Columns, known: Mapping[str, Sequence[str]]) -> str:
    """A sentence that lists the columns not read; empty if all are."""
    if not columns.ignored:
        return ""
    meant = {name: difflib.get_close_matches(_normalized(name), known, 1, 0.75) for name in columns.ignored}
    hints = [f"; {name!r} looks like {close[0]!r} misspelled" for name, close in meant.items() if close]
    several = "column" if len(columns.ignored) == 1 else "columns"
    return f"{several} {_shown(columns.ignored)} {'is' if several == 'column' else 'are'} not read{''.join(hints)}"


def _all_names(known: Mapping[str, Sequence[str]]) -> set[str]:
    return {name for column, others in known.items() for name in (column, *others)}


def _normalized(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _shown(names: Sequence[str], most: int = 8) -> str:
    """Names in quotes, on one line; long names and all after the eighth are truncated."""
    cut = [name.strip() if len(name) <= 60 else f"{name.strip()[:57]}..." for name in names[:most]]
    return ", ".join(repr(name) if name else "one without a name" for name in cut) + (
        ", ..." if len(names) > most else ""
    )
