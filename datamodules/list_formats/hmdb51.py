"""Reader of HMDB51's lists, with their three folds.

The file names in `HMDB51.example` are true, the numbers behind them have the form of the lists.
"""

import re
from collections.abc import Sequence

from datamodules.annotations.list_format import ListFormat, ListHead
from datamodules.annotations.records import Annotations, PathLike, as_list
from datamodules.annotations.tables import AnnotationError, AnnotationRow
from datamodules.annotations.video_files import existing_folder
from datamodules.list_formats.fold_lists import find_lists, is_file_name, list_lines, make_folds

_HMDB51_LIST = re.compile(r"(.+)_test_split(\d+)\.txt")
_HMDB51_SPLITS = {"0": "", "1": "train", "2": "test"}
_HMDB51_NAME = re.compile(r"(.+)_[a-z]_(?:cm|nm)_np\d_[a-z]{2}_[a-z]{3}_\d+")  # {source}_{class}_{five properties}_{n}


def read_hmdb51(lists: PathLike | Sequence[PathLike], videos_root: PathLike) -> Annotations:
    """Read HMDB51: {class}_test_split{1,2,3}.txt with lines of a file name and 0 (unused), 1 (train) or 2 (test).

    A video that a fold does not use has the split "" there. The group is the class and the source at the beginning of
    the file name, {source}_{class}_{properties}_{n}.avi: the official splits separate sources within a class.

    Args:
        lists: the folder of the files, or the files.
        videos_root: folder of the videos, {class}/{name}.avi or flat.

    Raises:
        AnnotationError: a file is missing, a line is malformed, or a video is listed twice in a fold.
    """
    list_files = find_lists(lists, _HMDB51_LIST)
    if not list_files:
        raise AnnotationError(f"{as_list(lists)[0]}: has no {{class}}_test_split1.txt and so on; name their folder")
    folds = sorted({fold for _, fold in list_files}, key=int)
    entries: dict[str, list[tuple[str, str, AnnotationRow]]] = {fold: [] for fold in folds}
    groups = {}
    for label in sorted({label for label, _ in list_files}):
        for fold in folds:
            if (label, fold) not in list_files:
                folder = next(iter(list_files.values())).parent
                raise AnnotationError(f"{folder}: has no {label}_test_split{fold}.txt; other classes have split {fold}")
            for row in list_lines(list_files[label, fold]):
                name, _, number = row.values["line"].rpartition(" ")
                name = name.strip()
                if number not in _HMDB51_SPLITS or not is_file_name(name) or "/" in name:
                    raise row.error("line", "must be the name of a video and 0, 1 or 2")
                path = f"{label}/{name}"
                entries[fold].append((path, _HMDB51_SPLITS[number], row))
                match = _HMDB51_NAME.fullmatch(name.rpartition(".")[0])
                if match is not None and match[1].endswith(f"_{label}"):
                    groups[path] = f"{label}/{match[1].removesuffix(f'_{label}')}"
    return make_folds(entries, groups, existing_folder(videos_root), tuple(sorted({label for label, _ in list_files})))


def _matches(head: ListHead) -> bool:
    return any(map(_HMDB51_LIST.fullmatch, head.names))


HMDB51 = ListFormat(
    "hmdb51",
    "HMDB51: the folder with {class}_test_split1.txt and so on for splits 1 to 3, which are folds; 1 is training, 2 "
    "test, 0 unused. Videos: {class}/{name}.avi, or flat.",
    "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1\n"
    "April_09_brush_hair_u_nm_np1_ba_goo_1.avi 1\n"
    "April_09_brush_hair_u_nm_np1_ba_goo_2.avi 1",
    lambda source: read_hmdb51(source.paths, source.videos),
    _matches,
    options=frozenset(),
)
