"""The formats of annotation lists: `FORMATS` by name, and `detect_format`."""

import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from datamodules.annotations.class_folders import read_class_folders
from datamodules.annotations.json_lists import is_json_list, read_json
from datamodules.annotations.list_format import ListFormat, ListHead
from datamodules.annotations.plain_lists import read_csv
from datamodules.annotations.tables import EMPTY_LIST, AnnotationError, read_header
from datamodules.list_formats.diving48 import DIVING48
from datamodules.list_formats.hmdb51 import HMDB51
from datamodules.list_formats.jester import JESTER
from datamodules.list_formats.kinetics import KINETICS
from datamodules.list_formats.mmaction import MMACTION
from datamodules.list_formats.moments_in_time import MOMENTS_IN_TIME
from datamodules.list_formats.something_something import SOMETHING_SOMETHING_V2
from datamodules.list_formats.ucf101 import UCF101
from datamodules.list_formats.unlabelled_files import UNLABELLED_FILES
from datamodules.timed_lists.activitynet import ACTIVITYNET, HACS, THUMOS14
from datamodules.timed_lists.charades import CHARADES
from datamodules.timed_lists.epic_kitchens import EPIC_KITCHENS
from datamodules.timed_lists.fiftyone import FIFTYONE
from datamodules.timed_lists.label_studio import LABEL_STUDIO
from datamodules.timed_lists.via3 import VIA3

AnnotationFormat = Literal[
    "auto",
    "csv",
    "folders",
    "files",
    "activitynet",
    "charades",
    "diving48",
    "epic_kitchens",
    "fiftyone",
    "hacs",
    "hmdb51",
    "jester",
    "kinetics",
    "label_studio",
    "mmaction",
    "moments_in_time",
    "something_something_v2",
    "thumos14",
    "ucf101",
    "via3",
]

FOLDERS = ListFormat(
    "folders",
    "Folders named after classes, without a list: {split}/{class}/, or {class}/ with --split.",
    "my_videos/train/fight/fi001.mp4\nmy_videos/train/noFight/nofi001.mp4\nmy_videos/test/fight/fi002.mp4",
    lambda source: read_class_folders(source.videos, source.split, source.options.frames_per_second),
)
CSV = ListFormat(
    "csv",
    "A table of your own, CSV or Parquet: path, label (or labels, any number, or neither), and optionally group, split "
    "or fold, and caption; start and end in seconds, or start_frame and end_frame, for segments. Videos: at the paths, "
    "relative to --videos.",
    "path,label,split\nfight/fi001.mp4,fight,train\nnofight/nofi001.mp4,noFight,test",
    lambda source: read_csv(source.paths[0], source.videos, source.split, source.options.multi_label),
    options=frozenset({"split", "multi_label"}),
    single_file=True,
)
# In the order of detection: `activitynet` matches lists of the two before it, `mmaction` any text without columns.
_DETECTED = (
    UCF101,
    HMDB51,
    KINETICS,
    SOMETHING_SOMETHING_V2,
    JESTER,
    CHARADES,
    HACS,
    THUMOS14,
    ACTIVITYNET,
    DIVING48,
    MOMENTS_IN_TIME,
    EPIC_KITCHENS,
    LABEL_STUDIO,
    FIFTYONE,
    VIA3,
    MMACTION,
)
FORMATS: Mapping[str, ListFormat] = {one.name: one for one in (*_DETECTED, FOLDERS, UNLABELLED_FILES, CSV)}


def detect_format(path: Path) -> ListFormat:
    """The format of a list or a folder of lists, by its columns, names of files, or keys of its JSON.

    Raises:
        AnnotationError: the list is empty, or it is JSON of none of the formats.
    """
    head = _read_head(path)
    found = next((one for one in _DETECTED if one.matches(head)), None)
    if found is None and head.content is not None:
        raise AnnotationError(
            f"{path}: is JSON of a form that is not recognized; name its format (--format), or write a CSV file with "
            "the columns path, label, split"
        )
    return found or (FOLDERS if path.is_dir() else CSV)


def describe_formats(name: str = "auto") -> str:
    """A format with three lines of a list, or with another name, such as `auto`, a line for each format."""
    if name in FORMATS:
        form = FORMATS[name]
        lines = textwrap.indent(form.example, "    ")
        return "\n".join([f"--format {name}:", *_wrap(form.description), "Three lines:", "", lines])
    width = max(map(len, FORMATS))
    head = "formats of lists (`--format NAME --help` shows three lines of a list):"
    return "\n".join([head, *(f"  {one.name:<{width}}  {_first_words(one)}" for one in FORMATS.values())])


def _wrap(text: str) -> list[str]:
    return textwrap.wrap(text, 100, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _first_words(form: ListFormat) -> str:
    """The description up to its first colon, semicolon, comma or full stop: what the format is of."""
    return re.split(r"[:;,]|\.(?: |$)", form.description)[0]


def _read_head(path: Path) -> ListHead:
    if path.is_dir():
        return ListHead(path, sorted(item.name for item in path.iterdir()), [], None)
    if is_json_list(path):
        return ListHead(path, [path.name], [], read_json(path))
    header = read_header(path)
    if not header:
        raise AnnotationError(f"{path}: {EMPTY_LIST}")
    return ListHead(path, [path.name], header, None)
