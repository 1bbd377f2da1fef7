"""Reader of Something-Something V2's lists: train, validation and test json, and the template's classes in labels.json.

The form was verified with the quotations of the official files in public READMEs and the parsers of mmaction2
(`parse_sthv2_splits`) and PyTorchVideo (`ssv2.py`). The three lines of `SOMETHING_SOMETHING_V2.example` are true.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from datamodules.annotations.json_lists import JsonEntry, keyed_texts, list_entries, read_json
from datamodules.annotations.list_format import ListFormat, ListHead, find_beside, find_list_files
from datamodules.annotations.list_text import AnnotationError
from datamodules.annotations.records import Annotations, PathLike, VideoRecord
from datamodules.annotations.skipped_files import count_noun
from datamodules.annotations.tables import read_lines
from datamodules.annotations.video_files import existing_folder, make_keys
from datamodules.annotations.video_lookup import VideoQuery, locate_videos

_PREFIX = "something-something-v2-"  # of the first release
_NAMES = {"train.json": "train", "validation.json": "val", "test.json": "test", "test-answers.csv": "test"}
_FILES = _NAMES | {f"{_PREFIX}{name}": split for name, split in _NAMES.items()}
_LABELS = ("labels.json", f"{_PREFIX}labels.json")
_BRACKETS = str.maketrans("", "", "[]")


def read_something_something_v2(
    lists: PathLike | Sequence[PathLike], videos_root: PathLike, split: str | None = None
) -> Annotations:
    """Read Something-Something V2.

    The class is the template without its brackets, as `labels.json` beside the list numbers it; the sentence that
    describes the video (`label`) is its caption. test.json has no classes: its videos have no label, unless
    test-answers.csv, lines `id;class`, is read in its place. Groups are the videos, as the lists do not name the people
    in them.

    Args:
        lists: the files, or their folder; with test-answers.csv in the folder, test.json is not read.
        videos_root: folder of the videos, {id}.webm, or up to two folders above it.
        split: the split of all videos; None: by the file's name (train, validation, test).

    Raises:
        AnnotationError: a file is missing or malformed, a template is not in labels.json, or a video is listed twice.
    """
    files = find_list_files(lists, _FILES, split)
    if any(path.suffix == ".csv" for path, _ in files):
        files = [(path, name) for path, name in files if not path.name.endswith("test.json")]
    classes = _read_classes(find_beside(files[0][0], _LABELS, "which numbers the classes"))
    videos: list[tuple[str, str, str, tuple[str, ...]]] = []
    for path, name in files:
        read = _read_answers if path.suffix == ".csv" else _read_entries
        videos += [(video, label, name, captions) for video, label, captions in read(path, classes)]
    ids = [video for video, _, _, _ in videos]
    repeated = next((video for video, count in Counter(ids).items() if count > 1), None)
    if repeated is not None:
        raise AnnotationError(f"{files[0][0]}: the video {repeated} is listed twice in the files; name each list once")
    root = existing_folder(videos_root)
    queries = [VideoQuery(video, label, name, ".webm") for video, label, name, _ in videos]
    paths, notes = locate_videos(root, queries, [f"{video}.webm" for video in ids])
    records = [
        VideoRecord(path, key, label, name, key, captions=captions)
        for (_, label, name, captions), path, key in zip(videos, paths, make_keys(ids), strict=True)
    ]
    unlabelled = sum(not record.label for record in records)
    if unlabelled:
        notes.append(f"{count_noun(unlabelled, 'video')} of a list without classes packed without a label")
    return Annotations(records, classes=tuple(classes), notes=tuple(notes))


def _read_classes(path: Path) -> list[str]:
    """The classes in the order of their numbers."""
    numbers = keyed_texts(path, read_json(path))
    if sorted(numbers.values(), key=lambda number: (len(number), number)) != [str(n) for n in range(len(numbers))]:
        raise AnnotationError(f"{path}: must number the classes from 0, each number once; use the official file")
    return sorted(numbers, key=lambda label: int(numbers[label]))


def _read_entries(path: Path, classes: Sequence[str]) -> list[tuple[str, str, tuple[str, ...]]]:
    """Id, class and captions of each video in a JSON list; without classes where no entry has a template."""
    entries = list_entries(path, read_json(path))
    known = frozenset(classes)
    labelled = any("template" in entry.values for entry in entries)
    return [(entry.text("id"), _label(entry, known) if labelled else "", _captions(entry.values)) for entry in entries]


def _label(entry: JsonEntry, known: frozenset[str]) -> str:
    label = entry.text("template").translate(_BRACKETS)
    if label not in known:
        raise entry.error("template", "is not in labels.json, without its brackets; use the official file")
    return label


def _captions(values: Mapping[str, object]) -> tuple[str, ...]:
    caption = values.get("label")
    return (" ".join(caption.split()),) if isinstance(caption, str) and caption.strip() else ()


def _read_answers(path: Path, classes: Sequence[str]) -> list[tuple[str, str, tuple[str, ...]]]:
    known = frozenset(classes)
    videos: list[tuple[str, str, tuple[str, ...]]] = []
    for number, line in read_lines(path):
        video, _, label = line.partition(";")
        if not video.strip().isdecimal() or label.strip() not in known:
            raise AnnotationError(f"{path}, line {number}: {line!r}: must be the id of a video; a class of labels.json")
        videos.append((video.strip(), label.strip(), ()))
    return videos


def _matches(head: ListHead) -> bool:
    named = any(name.startswith(_PREFIX) for name in head.names)
    return named or {"id", "template"} <= head.first_object.keys()


SOMETHING_SOMETHING_V2 = ListFormat(
    "something_something_v2",
    "Something-Something V2: train.json, validation.json and test.json (or test-answers.csv), or their folder, with "
    "labels.json beside them; also with the older prefix something-something-v2-. Videos: {id}.webm.",
    '{"id":"78687","label":"holding potato next to vicks vaporub bottle","template":"Holding [something] next to '
    '[something]","placeholders":["potato","vicks vaporub bottle"]}\n'
    '{"id":"42326","label":"spreading margarine onto bread","template":"Spreading [something] onto [something]",'
    '"placeholders":["margarine","bread"]}\n'
    '{"id":"36585","label":"plastic falling like a feather or paper","template":"[Something] falling like a feather or '
    'paper","placeholders":["plastic"]}',
    lambda source: read_something_something_v2(source.paths, source.videos, source.split),
    _matches,
)
