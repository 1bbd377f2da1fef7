"""quarantine.csv: the videos that packing left out, with the reason of each; later runs honour it."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from datamodules.aside import write_aside

QUARANTINE_NAME = "quarantine.csv"

HANG = "hang"  # longer than the time limit; the process was killed
CRASH = "crash"  # the decoder took its process down
ERROR = "error"  # anything unforeseen; the detail says what


class Refusal(NamedTuple):
    """A video left out.

    Attributes:
        path: The file, relative to the folder of the videos.
        key: Key of the video in the dataset.
        reason: One of a few words to count by: those of `DecodeError`, `hang`, `crash`, `error`, or a person's own.
        detail: What was seen, one line.
    """

    path: str
    key: str
    reason: str
    detail: str


class QuarantineError(ValueError):
    """quarantine.csv cannot be understood."""


def write_quarantine(root: Path, refusals: Iterable[Refusal]) -> None:
    """Write root/quarantine.csv, sorted by path, whole or not at all; the header alone where nothing was refused."""
    with write_aside(root / QUARANTINE_NAME) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Refusal._fields)
        writer.writerows(sorted(refusal._replace(detail=one_line(refusal.detail)) for refusal in refusals))


def read_quarantine(root: Path) -> dict[str, Refusal]:
    """The refusals of root/quarantine.csv by key; none where there is no such file.

    A line may be added by hand: only `key` must be filled in.

    Raises:
        QuarantineError: The file lacks a column `key`, a key is empty, or it is not text.
    """
    path = root / QUARANTINE_NAME
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = csv.DictReader(file)
            if "key" not in (lines.fieldnames or ()):
                raise QuarantineError(f"{path}: its header must be {','.join(Refusal._fields)}; correct or remove it")
            refusals = {}
            for line in lines:
                values = {name: (line.get(name) or "").strip() for name in Refusal._fields}
                if not values["key"]:
                    raise QuarantineError(
                        f"{path}, line {lines.line_num}: the key is empty; correct or remove the line"
                    )
                refusals[values["key"]] = Refusal(**values | {"reason": values["reason"] or "by hand"})
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise QuarantineError(f"{path}: cannot be read ({error}); correct or remove it") from None
    return refusals


def one_line(text: str, length: int = 300) -> str:
    """A text as one line of at most `length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 3] + "..."
