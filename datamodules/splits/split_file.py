"""Split files: a split or fold of every video of a dataset, in a CSV file that takes the place of the packed splits.

    DATASET/splits/NAME.csv    key,split or key,fold: a line for each video; perhaps group; further columns are ignored
    DATASET/splits/NAME.json   how `split` made it; absent where a person wrote it

`packed` names the splits that are in the index itself.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.errors import ShardFormatError
from datamodules.storage.plain_text import read_cell, to_json, write_cell
from datamodules.storage.remote_files import RemoteFiles, split_root

SplitColumn = Literal["split", "fold"]
SPLITS_FOLDER = "splits"
PACKED = "packed"
_COLUMNS: tuple[SplitColumn, ...] = ("split", "fold")
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_NO_SPLIT = "all"


class SplitFileError(ValueError):
    """A split file is missing or invalid, or does not fit the dataset."""


class SplitReference(NamedTuple):
    """Name and digest of a split file, for checkpoints and results.

    Attributes:
        name: its name in the folder `splits` of the dataset, or its path or URL.
        sha256: digest of the splits of all videos, hexadecimal; independent of order and further columns.
        groups_sha256: digest of the groups of all videos, hexadecimal; None where the file has no groups.
    """

    name: str
    sha256: str
    groups_sha256: str | None = None


class SplitFile(NamedTuple):
    """The contents of a split file.

    Attributes:
        name: its name in the folder `splits` of the dataset, or its path or URL.
        path: path or URL, for errors.
        column: `split`, or `fold`: the fold that holds a video out for testing.
        values: the split or fold of each video, by key; a split "" leaves the video out.
        groups: the group of each video that was not divided, by key, "" for none; None where the file has no groups.
    """

    name: str
    path: str
    column: SplitColumn
    values: Mapping[str, str]
    groups: Mapping[str, str] | None = None

    @property
    def folds(self) -> list[str]:
        """Names of the folds, numbers by value; empty for splits."""
        return sorted(set(self.values.values()), key=_natural) if self.column == "fold" else []

    @property
    def reference(self) -> SplitReference:
        """Name and digests."""
        groups = None if self.groups is None else _digest(sorted(self.groups.items()))
        return SplitReference(self.name, _digest([self.column, sorted(self.values.items())]), groups)

    def splits_of(self, key: str) -> tuple[str, tuple[str, ...]]:
        """`split` and `fold_splits` of a video, as in the index."""
        if self.column == "split":
            return self.values[key], ()
        return _NO_SPLIT, tuple("test" if fold == self.values[key] else "train" for fold in self.folds)


def describe_groups(split_file: Mapping[str, str] | None) -> str:
    """Which groups bootstrap samples draw, for reports: those of the chosen split file if it has any.

    Args:
        split_file: A `SplitReference` as recorded in checkpoints and results; None for the packed splits.

    >>> describe_groups(None), describe_groups(SplitReference("people", "ab", "cd")._asdict())
    ('groups', 'groups of split file people')
    """
    has_groups = split_file is not None and split_file.get("groups_sha256")
    return f"groups of split file {split_file['name']}" if split_file and has_groups else "groups"


def is_split_file_name(text: str) -> bool:
    """Whether a text is the name of a split file in the folder `splits` of a dataset, and not a path.

    >>> is_split_file_name("by-person"), is_split_file_name("splits/by-person.csv")
    (True, False)
    """
    return _NAME.fullmatch(text) is not None


def read_split_file(name: str, root: Path | str) -> SplitFile | None:
    """Reads the split file of this name or path.

    Args:
        name: A name in the folder `splits` of the dataset, or a path or URL; `packed`: the splits in the index.
        root: Folder or URL of the dataset, of its largest rendition.

    Returns:
        The contents; None for `packed`.

    Raises:
        SplitFileError: There is no such file, or it is invalid.
        ShardUnavailableError: It is at a URL that cannot be reached.
    """
    if name == PACKED:
        return None
    if not is_split_file_name(name):
        place = split_root(name)
        name = str(place.absolute()) if isinstance(place, Path) else place
        return _parse(_read(place, name), name, name)
    root = split_root(root)
    file = f"{SPLITS_FOLDER}/{name}.csv"
    place = root / file if isinstance(root, Path) else f"{root}/{file}"
    try:
        return _parse(_read(place, name), name, str(place))
    except FileNotFoundError:
        raise SplitFileError(
            f"split_file={name}: there is no {place}; {_known_names(root)}`python -m pipeline split {root} --name "
            f"{name} ...` makes it"
        ) from None


def read_packed_splits(root: Path) -> SplitFile | None:
    """The splits that a dataset was divided into when it was packed, from splits/packed.csv; None without that file.

    Raises:
        SplitFileError: The file is invalid.
    """
    path = root / SPLITS_FOLDER / f"{PACKED}.csv"
    return _parse(path.read_bytes(), PACKED, str(path)) if path.exists() else None


def _read(place: Path | str, name: str) -> bytes:
    """The bytes of a split file; FileNotFoundError only where its name is one of a dataset."""
    try:
        if isinstance(place, Path):
            return place.read_bytes()
        folder, _, file = place.rpartition("/")
        return RemoteFiles(folder).read_file(file)
    except (FileNotFoundError, ShardFormatError) as error:
        if is_split_file_name(name):
            raise FileNotFoundError(place) from error
        raise SplitFileError(
            f"split_file={name}: there is no such file; correct the path, or give the name of a file in the dataset's "
            f"folder {SPLITS_FOLDER}"
        ) from None
    except OSError as error:
        if isinstance(place, str):
            raise
        raise SplitFileError(f"split_file={name}: cannot be read ({error.strerror}); check the path") from None


def _known_names(root: Path | str) -> str:
    names = sorted(path.stem for path in (root / SPLITS_FOLDER).glob("*.csv")) if isinstance(root, Path) else []
    return f"there are {', '.join(names)}; " if names else ""


def _parse(content: bytes, name: str, path: str) -> SplitFile:
    try:
        text = content.decode("utf-8-sig")
        header = text.partition("\n")[0]
        delimiter = next((each for each in (",", ";", "\t") if each in header), ",")
        lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        column = _column_of([field.strip() for field in lines.fieldnames or ()], path)
        lines.fieldnames = [field.strip() for field in lines.fieldnames or ()]
        values: dict[str, str] = {}
        groups: dict[str, str] | None = {} if "group" in lines.fieldnames else None
        for line in lines:
            key, value = (read_cell(line.get(field) or "") for field in ("key", column))
            if not key:
                raise SplitFileError(f"{path}, line {lines.line_num}: the key is empty; correct or remove the line")
            if key in values:
                raise SplitFileError(f"{path}, line {lines.line_num}: key {key!r} is there twice; keep one line")
            if column == "fold" and not value:
                raise SplitFileError(f"{path}, line {lines.line_num}: the fold of {key} is empty; fill it in")
            if value == _NO_SPLIT:
                raise SplitFileError(
                    f"{path}, line {lines.line_num}: {_NO_SPLIT} is the name of all videos; choose another {column}"
                )
            values[key] = value
            if groups is not None:
                groups[key] = read_cell(line.get("group") or "")
    except (UnicodeDecodeError, csv.Error) as error:
        raise SplitFileError(f"{path}: is not a CSV file in UTF-8 ({error}); save it as one") from None
    found = SplitFile(name, path, column, values, groups)
    if column == "fold" and len(found.folds) < 2:
        raise SplitFileError(f"{path}: names {len(found.folds)} folds; there must be at least two")
    if not any(values.values()):
        raise SplitFileError(f"{path}: gives no video a split; add lines of key and split")
    return found


def _column_of(fields: Sequence[str], path: str) -> SplitColumn:
    present = [column for column in _COLUMNS if column in fields]
    if "key" not in fields or len(present) != 1:
        raise SplitFileError(
            f"{path}: its header must have key and either split or fold, and is {','.join(fields)!r}; correct it"
        )
    return present[0]


def write_split_file(
    path: Path, column: SplitColumn, values: Mapping[str, str], groups: Mapping[str, str], about: Mapping[str, Any]
) -> None:
    """Writes a split file, sorted by key, and the description beside it, each atomically.

    Args:
        path: Path of the CSV file; its folder is made.
        column: What the values are.
        values: The split or fold of each video, by key.
        groups: The group of each video that was not divided, by key: a further column.
        about: How the file was made, plain data, for the .json of the same name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("key", column, "group"))
        writer.writerows(map(write_cell, (key, values[key], groups[key])) for key in sorted(values))
    with write_atomically(path.with_suffix(".json")) as temporary:
        temporary.write_text(to_json(dict(about), indent=1) + "\n", encoding="utf-8")


def _digest(content: object) -> str:
    """The sha256 of plain data as JSON, hexadecimal."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _natural(name: str) -> tuple[bool, int, str]:
    """Sort key that sorts numbers by value, before all other names."""
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)
