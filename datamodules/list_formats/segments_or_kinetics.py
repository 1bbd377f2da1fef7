"""Format of a table whose columns fit two formats: a table of segments of files, and a Kinetics list of clips.

A table of segments names files, and cuts its segments out of them. A Kinetics list names YouTube's videos and gives the
times in the original; its clips are files of their own, {youtube_id}_{time_start}_{time_end}. So the names of the files
decide.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from datamodules.annotations.columns import CSV_COLUMNS, KINETICS_COLUMNS, ColumnError, has_columns, match_columns
from datamodules.annotations.json_lists import is_json_list
from datamodules.annotations.skipped_files import count_noun
from datamodules.annotations.tables import AnnotationRow, read_header, read_table
from datamodules.annotations.video_files import existing_folder, has_video_suffix
from datamodules.annotations.video_lookup import VideoNameIndex
from datamodules.list_formats.kinetics import parse_timed_name

_YOUTUBE_ID = re.compile(r"[\w-]{11}", re.ASCII)
_FORMS = {"csv": "a table of segments of files", "kinetics": "a Kinetics list of clips"}


class FormatChoice(NamedTuple):
    """The format chosen for a table that two formats can read.

    Attributes:
        name: the format.
        note: a sentence for the user: what was chosen, why, and how to choose the other.
    """

    name: Literal["csv", "kinetics"]
    note: str


def is_readable_as_both(path: Path) -> bool:
    """Whether a list is a table that both formats can read, such as one with the columns video_id, start and end."""
    if is_json_list(path):
        return False
    header = read_header(path)
    try:
        match_columns(header, CSV_COLUMNS, ("path", "start", "end"))
    except ColumnError:
        return False
    return has_columns(header, KINETICS_COLUMNS, ("youtube_id", "time_start", "time_end"))


def choose_format(path: Path, videos_root: Path) -> FormatChoice:
    """The format of a table that both formats can read, by the names in it and the files in the folder of the videos.

    Raises:
        AnnotationError: the folder is missing, or the table is malformed.
    """
    names = [row.values["path"].strip() for row in read_table(path, CSV_COLUMNS, ("path",)).rows]
    with_suffix = [name for name in names if has_video_suffix(name) or "/" in name or "\\" in name]
    if with_suffix:
        return _choice("csv", path, f"it names files, such as {with_suffix[0]}")
    root = existing_folder(videos_root)
    stems = VideoNameIndex(root).stems
    clips = _clips_among(read_table(path, KINETICS_COLUMNS, ("youtube_id",)).rows, stems)
    present = frozenset(stems)
    files = sorted({name for name in names if name in present or (name and (root / name).exists())})
    if clips and len(clips) >= len(files):
        return _choice("kinetics", path, f"{_count_with_verb(clips)} the name of a clip with its times: {clips[0]}")
    if files:
        return _choice("csv", path, f"{_count_with_verb(files)} a name of the list without times: {files[0]}")
    if all(_YOUTUBE_ID.fullmatch(name) for name in names):
        return _choice("kinetics", path, "no file of either kind is there, and its ids are of YouTube's form")
    return _choice("csv", path, "no file of either kind is there, and its ids are not of YouTube's form")


def _clips_among(rows: Sequence[AnnotationRow], stems: Sequence[str]) -> list[str]:
    """Those names of files that have the id and the times of a row, as clips of Kinetics have."""
    listed = {_times(row) for row in rows}
    return sorted(stem for stem in set(stems) if parse_timed_name(stem) in listed - {None})


def _times(row: AnnotationRow) -> tuple[str, float, float] | None:
    try:
        start, end = (float(row.values[column]) for column in ("time_start", "time_end"))
    except ValueError:
        return None
    return row.values["youtube_id"].strip(), start, end


def _count_with_verb(names: Sequence[str]) -> str:
    return f"{count_noun(len(names), 'file')} there {'has' if len(names) == 1 else 'have'}"


def _choice(name: Literal["csv", "kinetics"], path: Path, reason: str) -> FormatChoice:
    other = "kinetics" if name == "csv" else "csv"
    note = f"{path}: read as {_FORMS[name]}, as {reason}; --format {other} reads it as {_FORMS[other]}"
    return FormatChoice(name, note)
