"""quarantine.csv: the videos left out by packing or by a user, with the reason of each; later runs honor it.

A video of the index whose key is in the list is never read: in training it keeps its place in the plan and is missing
from its batch, in evaluation it is left out.
"""

import csv
import hashlib
import io
import json
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.annotations.refusals import BY_HAND, Refusal
from datamodules.dataset.mapped_index import MappedIndex
from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.errors import ShardFormatError, ShardUnavailableError
from datamodules.storage.plain_text import is_utf8, printable, read_cell, write_cell
from datamodules.storage.remote_files import RemoteFiles

QUARANTINE_NAME = "quarantine.csv"


class QuarantineError(ValueError):
    """quarantine.csv is invalid."""


def write_quarantine(root: Path, refusals: Iterable[Refusal]) -> None:
    """Writes root/quarantine.csv atomically, sorted by path; only the header if there are no refusals."""
    write_quarantine_file(root / QUARANTINE_NAME, refusals)


def write_quarantine_file(path: Path, refusals: Iterable[Refusal]) -> None:
    """`write_quarantine` for a file of any name."""
    with (
        write_atomically(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(Refusal._fields)
        lines = sorted(refusal._replace(detail=one_line(refusal.detail)) for refusal in refusals)
        writer.writerows(map(write_cell, line) for line in lines)


def read_quarantine(root: Path) -> dict[str, Refusal]:
    """The refusals in root/quarantine.csv by key; empty if there is no such file.

    Lines may be added by hand: only `key` is required. An apostrophe before a text is for spreadsheets (see
    `datamodules.storage.plain_text`), and not part of it.

    Raises:
        QuarantineError: The file has no column `key`, a key is empty, or it is not text.
    """
    return read_quarantine_file(root / QUARANTINE_NAME)


def read_quarantine_file(path: Path) -> dict[str, Refusal]:
    """`read_quarantine` for a file of any name."""
    try:
        return parse_quarantine(path.read_bytes(), str(path))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise QuarantineError(f"{path}: cannot be read ({error}); correct or remove it") from None


def read_remote_quarantine(files: RemoteFiles) -> dict[str, Refusal]:
    """`read_quarantine` for a dataset at a URL."""
    try:
        content = files.read_file(QUARANTINE_NAME)
    except ShardUnavailableError as error:
        # Object stores report a missing file as forbidden to users who may not list the folder.
        if not isinstance(error.__cause__, PermissionError) and getattr(error.__cause__, "status", None) != 403:
            raise
        return {}
    except ShardFormatError:
        return {}
    return parse_quarantine(content, f"{files.root}/{QUARANTINE_NAME}")


def parse_quarantine(content: bytes, path: str) -> dict[str, Refusal]:
    """The refusals in the content of a quarantine.csv, see `read_quarantine`; `path` names the file in errors."""
    try:
        lines = csv.DictReader(io.StringIO(content.decode(), newline=""))
        if "key" not in (lines.fieldnames or ()):
            raise QuarantineError(f"{path}: its header must be {','.join(Refusal._fields)}; correct or remove it")
        refusals = {}
        for line in lines:
            values = {name: read_cell(line.get(name) or "") for name in Refusal._fields}
            if not values["key"]:
                raise QuarantineError(f"{path}, line {lines.line_num}: the key is empty; correct or remove the line")
            refusals[values["key"]] = Refusal(**values | {"reason": values["reason"] or BY_HAND})
    except (UnicodeDecodeError, csv.Error) as error:
        raise QuarantineError(f"{path}: cannot be read ({error}); correct or remove it") from None
    return refusals


def quarantined_rows(index: MappedIndex, keys: Collection[str]) -> np.ndarray:
    """Rows of the videos with these keys, int64, ascending, read-only; unknown keys are ignored.

    The result is stored with the mapped index, so that the next process with the same keys does not search.
    """
    sorted_keys = sorted(filter(is_utf8, keys))  # keys in an index are UTF-8
    if not sorted_keys:
        return np.empty(0, dtype=np.int64)
    values = pa.array(sorted_keys, pa.string())
    digest = hashlib.sha256(json.dumps(sorted_keys).encode()).hexdigest()
    return index.rows(f"keys {digest}", lambda batch: pc.is_in(batch.column("key"), value_set=values))


def one_line(text: str, length: int = 300) -> str:
    """A text as one line of at most `length` characters, control characters escaped."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= length else line[: length - 3] + "..."
