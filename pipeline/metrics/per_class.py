"""per_class.csv: one row a class with accuracy, precision and the class it is most often mistaken for."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.plain_text import write_cell
from pipeline.metrics.confidence_intervals import wilson_interval

PER_CLASS_NAME = "per_class.csv"


class ClassRow(NamedTuple):
    """Accuracy, precision and most frequent confusion of one class.

    Attributes:
        name: name of the class.
        videos: number of videos with this label.
        correct: number of videos with this label that were predicted as this class.
        accuracy: correct / videos, in [0, 1]; None where there is no video.
        low: lower limit of the accuracy's 95 % interval (Wilson's; assumes independent videos); None without a video.
        high: upper limit of the same interval; None without a video.
        predicted: number of videos of any label that were predicted as this class.
        precision: correct / predicted, in [0, 1]; None where no video was predicted as this class.
        taken_for: the class that its videos were most often mistaken for; "" where none was mistaken.
        taken_for_videos: number of videos with this label that were mistaken for `taken_for`.
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
    """The rows of all classes, in the order of the labels.

    Args:
        matrix: int64 (K, K), numbers of videos by label (rows) and predicted class (columns).
        videos: int64 (K,), number of videos of each label, including videos without a prediction.
        class_names: the K class names, in the order of the labels.
    """
    rows = []
    for number, name in enumerate(class_names):
        num_videos, num_correct = int(videos[number]), int(matrix[number, number])
        predicted = int(matrix[:, number].sum())
        others = matrix[number].copy()
        others[number] = 0
        confused_label = int(others.argmax())
        low, high = wilson_interval(num_correct, num_videos) or (None, None)
        rows.append(
            ClassRow(
                name=name,
                videos=num_videos,
                correct=num_correct,
                accuracy=num_correct / num_videos if num_videos else None,
                low=low,
                high=high,
                predicted=predicted,
                precision=num_correct / predicted if predicted else None,
                taken_for=class_names[confused_label] if others[confused_label] else "",
                taken_for_videos=int(others[confused_label]),
            )
        )
    return rows


def write_class_rows(path: Path, rows: Sequence[ClassRow]) -> None:
    """Writes per_class.csv of a dataset with one label a video."""
    write_rows(path, ["class", *ClassRow._fields[1:]], rows)


def write_rows(path: Path, header: Sequence[str], rows: Iterable[Iterable[str | float | None]]) -> None:
    """Writes rows as CSV with a header, atomically; names as `datamodules.storage.plain_text.write_cell` does."""
    with write_atomically(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(map(_as_cell, row) for row in rows)


def _as_cell(value: str | float | None) -> str | float:
    if isinstance(value, str):
        return write_cell(value)
    return "" if value is None else round(value, 6)
