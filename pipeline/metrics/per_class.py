"""per_class.csv: a row a class, what it is recognized by and what it is taken for."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.plain_text import write_cell
from pipeline.metrics.confidence_intervals import wilson

PER_CLASS_NAME = "per_class.csv"


class ClassRow(NamedTuple):
    """What came of the videos of a class.

    Attributes:
        name: of the class.
        videos: with this label.
        correct: of these, recognized.
        accuracy: their share; None where there is no video.
        low: of the accuracy's interval (95 %, Wilson's; it takes videos as independent); None likewise.
        high: likewise.
        predicted: videos of any label that were taken for this class.
        precision: share of those that have this label; None where there are none.
        taken_for: the class that its videos were most often taken for, "" where none was mistaken.
        taken_for_videos: how many.
    """

    name: str
    videos: int
    correct: int
    accuracy: float | None
    low: float | None
    high: float | None
    predicted: int
    precision: float | None
    taken_for: str
    taken_for_videos: int


def class_rows(matrix: NDArray[np.int64], videos: NDArray[np.int64], class_names: Sequence[str]) -> list[ClassRow]:
    """A row for each class, in the order of the labels.

    Args:
        matrix: int64 (K, K), videos by label and predicted class.
        videos: int64 (K,), videos of each label, those without a prediction included.
        class_names: the K names.
    """
    rows = []
    for number, name in enumerate(class_names):
        of, right, predicted = int(videos[number]), int(matrix[number, number]), int(matrix[:, number].sum())
        others = matrix[number].copy()
        others[number] = 0
        mistaken = int(others.argmax())
        low, high = wilson(right, of) or (None, None)
        rows.append(
            ClassRow(
                name=name,
                videos=of,
                correct=right,
                accuracy=right / of if of else None,
                low=low,
                high=high,
                predicted=predicted,
                precision=right / predicted if predicted else None,
                taken_for=class_names[mistaken] if others[mistaken] else "",
                taken_for_videos=int(others[mistaken]),
            )
        )
    return rows


def write_class_rows(path: Path, rows: Sequence[ClassRow]) -> None:
    """Writes the rows as CSV with a heading, atomically; names by `datamodules.storage.plain_text.write_cell`."""
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["class", *ClassRow._fields[1:]])
        writer.writerows(map(_as_cell, row) for row in rows)


def _as_cell(value: str | float | None) -> str | float:
    if isinstance(value, str):
        return write_cell(value)
    return "" if value is None else round(value, 6)
