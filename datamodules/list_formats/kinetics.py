"""Reader of Kinetics' lists, CSV or json; finds clips under the file names of several downloaders."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datamodules.annotations.columns import CSV_COLUMNS, KINETICS_COLUMNS, has_columns
from datamodules.annotations.json_lists import JsonEntry, is_json_list, keyed_entries, read_json
from datamodules.annotations.list_format import ListFormat, ListHead
from datamodules.annotations.records import Annotations, PathLike, VideoRecord, as_list, normalize_split
from datamodules.annotations.skipped_files import count_noun, join_first_names
from datamodules.annotations.tables import (
    AnnotationRow,
    AnnotationTable,
    read_table,
    refuse_repeats,
)
from datamodules.annotations.video_files import existing_folder, join
from datamodules.annotations.video_lookup import VideoNameIndex, VideoQuery
from datamodules.storage.plain_text import describe_trimmed_labels

_TIMED_NAME = re.compile(r"(?:v_)?([\w-]+?)[_-](\d+(?:\.\d+)?)[_-](\d+(?:\.\d+)?)", re.ASCII)


class _KineticsClip(NamedTuple):
    row: AnnotationRow
    youtube_id: str
    start: int
    end: int
    label: str
    split: str

    @property
    def key(self) -> str:
        return f"{self.youtube_id}_{self.start:06d}_{self.end:06d}"


def read_kinetics_csv(
    csv_paths: PathLike | Sequence[PathLike], videos_root: PathLike, split: str | None = None
) -> Annotations:
    """Read official Kinetics lists: label, youtube_id, time_start, time_end, split and optionally is_cc; or their json.

    A video is the file {youtube_id}_{time_start:06d}_{time_end:06d} with any suffix, in the videos' folder or up to two
    folders deeper ({class}/, {split}/{class}/). If there are several, a folder named after the class wins (blanks may
    be underscores), then the split's. Otherwise a file with the same times in another notation is taken
    ({youtube_id}_7_17, {youtube_id}_7.0_17.0), or {youtube_id} if the list has one clip of that source. A clip without
    a file gets the path {class}/{name}.mp4. The youtube id is the group; the times are those of the list, which are not
    times in the file if it was cut already.

    Args:
        csv_paths: one list, or several, such as train and validation.
        videos_root: folder of the videos.
        split: the split of all videos; None: from the column ("validate" and "validation" are read as "val").

    Raises:
        AnnotationError: a file or folder is missing, a column is missing, a value is malformed, a clip is listed twice,
            or nothing is listed.
    """
    split = None if split is None else normalize_split(split)
    required = ("label", "youtube_id", "time_start", "time_end", *(("split",) if split is None else ()))
    tables = [_read_list(Path(path), required) for path in as_list(csv_paths)]
    root = existing_folder(videos_root)
    clips = [_read_clip(row, split) for table in tables for row in table.rows]
    refuse_repeats([clip.key for clip in clips], [clip.row for clip in clips], "clip")
    files = VideoNameIndex(root)
    paths = files.find([VideoQuery(clip.key, clip.label, clip.split) for clip in clips])
    notes = _find_by_other_names(clips, paths, files)
    records = [
        VideoRecord(
            join(root, path or f"{clip.label}/{clip.key}.mp4"),
            clip.key,
            clip.label,
            clip.split,
            clip.youtube_id,
            float(clip.start),
            float(clip.end),
        )
        for clip, path in zip(clips, paths, strict=True)
    ]
    trimmed = describe_trimmed_labels(row.values["label"] for table in tables for row in table.rows)
    sentences = [*(table.note for table in tables), trimmed, *notes, *files.notes()]
    return Annotations(records, notes=tuple(note for note in sentences if note))


def _read_list(path: Path, required: Sequence[str]) -> AnnotationTable:
    return _read_json_list(path) if is_json_list(path) else read_table(path, KINETICS_COLUMNS, required)


def _read_json_list(path: Path) -> AnnotationTable:
    """The rows of a list in json, {youtube_id: {"annotations": {"label", "segment"}, "subset"}}, as of one in CSV."""
    rows = []
    for number, (youtube_id, entry) in enumerate(keyed_entries(path, read_json(path)).items(), 1):
        annotation = entry.values.get("annotations")
        if not isinstance(annotation, dict):
            raise entry.error("annotations", 'must be an object such as {"label": "yoga", "segment": [84.0, 94.0]}')
        inner = JsonEntry(f"{entry.location}, annotations", annotation)
        start, end = inner.interval("segment")
        values = {"label": inner.text("label"), "youtube_id": youtube_id, "split": entry.text("subset")}
        rows.append(AnnotationRow(str(path), number, {**values, "time_start": str(start), "time_end": str(end)}))
    return AnnotationTable(rows, "")


def _read_clip(row: AnnotationRow, split: str | None) -> _KineticsClip:
    youtube_id, start, end = row.text("youtube_id"), row.seconds("time_start"), row.seconds("time_end")
    if re.fullmatch(r"[\w-]+", youtube_id, re.ASCII) is None:
        raise row.error("youtube_id", "must consist of letters, digits, - and _")
    for column, value in (("time_start", start), ("time_end", end)):
        if not value.is_integer():
            raise row.error(column, "must be whole seconds, as in the official lists")
    if end <= start:
        raise row.error("time_end", f"must be after time_start={row.values['time_start']}")
    return _KineticsClip(row, youtube_id, int(start), int(end), row.text("label"), row.split(split))


def parse_timed_name(stem: str) -> tuple[str, float, float] | None:
    """Youtube id, start and end in seconds of a clip, in the name of its file without suffix; None without them.

    >>> parse_timed_name("---QUuC4vJs_000084_000094"), parse_timed_name("kitchen")
    (('---QUuC4vJs', 84.0, 94.0), None)
    """
    match = _TIMED_NAME.fullmatch(stem)
    return None if match is None else (match[1], float(match[2]), float(match[3]))


def _find_by_other_names(clips: Sequence[_KineticsClip], paths: list[str | None], files: VideoNameIndex) -> list[str]:
    """Finds files under other than the official names; returns sentences on the names used and ambiguous files."""
    missing = [number for number, path in enumerate(paths) if path is None]
    if not missing:
        return []
    stems = set(files.stems)
    stems_by_times: defaultdict[tuple[str, float, float], list[str]] = defaultdict(list)
    stem_by_source: dict[str, str] = {}
    for stem in sorted(stems):
        times = parse_timed_name(stem)
        if times is not None:
            stems_by_times[times].append(stem)
            stem_by_source[times[0]] = stem
    sources = Counter(clip.youtube_id for clip in clips)
    names: dict[int, str] = {}
    ambiguous = []
    for number in missing:
        clip = clips[number]
        same_times = stems_by_times.get((clip.youtube_id, clip.start, clip.end), [])
        whole = next((stem for stem in (clip.youtube_id, f"v_{clip.youtube_id}") if stem in stems), "")
        other = whole or stem_by_source.get(clip.youtube_id, "")
        if len(same_times) == 1:
            names[number] = same_times[0]
        elif whole and sources[clip.youtube_id] == 1:
            names[number] = whole
        elif other:
            ambiguous.append((clip.key, other))
    queries = [VideoQuery(name, clips[number].label, clips[number].split) for number, name in names.items()]
    for number, path in zip(names, files.find(queries), strict=True):
        paths[number] = path
    return [*_describe_other_names(names, clips), *_describe_ambiguous_clips(ambiguous)]


def _describe_other_names(names: dict[int, str], clips: Sequence[_KineticsClip]) -> list[str]:
    if not names:
        return []
    number, name = next(iter(names.items()))
    return [
        f"{count_noun(len(names), 'clip')} found under other names than the official lists' "
        f"{{youtube_id}}_{{time_start:06d}}_{{time_end:06d}}, such as {join_first_names([name])} for "
        f"{clips[number].key}; what is longer than its clip is cut to the times of the list"
    ]


def _describe_ambiguous_clips(ambiguous: Sequence[tuple[str, str]]) -> list[str]:
    if not ambiguous:
        return []
    key, stem = ambiguous[0]
    return [
        f"{count_noun(len(ambiguous), 'clip')} not found while files of the same youtube id are there: {key} is not, "
        f"{join_first_names([stem])} is; call each {{youtube_id}}_{{time_start:06d}}_{{time_end:06d}}"
    ]


def _matches(head: ListHead) -> bool:
    first = next(iter(head.content.values()), None) if isinstance(head.content, dict) else None
    if isinstance(first, dict) and isinstance(first.get("annotations"), dict):
        return "segment" in first["annotations"]
    plain = has_columns(head.header, CSV_COLUMNS, ("path",)) and not has_columns(
        head.header, KINETICS_COLUMNS, ("youtube_id",)
    )
    official = not plain and any(column in head.header for column in ("youtube_id", "time_start", "time_end"))
    others = has_columns(head.header, KINETICS_COLUMNS, ("youtube_id", "time_start", "time_end"))
    return "path" not in head.header and (official or others)


KINETICS = ListFormat(
    "kinetics",
    "Kinetics, 400 to 700-2020: CSV or json files, in any number. Videos: {youtube_id}_{time_start:06d}_"
    "{time_end:06d}.mp4, flat, or in folders of the class or of split and class.",
    "label,youtube_id,time_start,time_end,split\n"
    "testifying,---QUuC4vJs,84,94,validate\n"
    "washing feet,--GkrdYZ9Tc,0,10,validate",
    lambda source: read_kinetics_csv(source.paths, source.videos, source.split),
    _matches,
)
