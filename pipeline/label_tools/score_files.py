"""Files of scores, of results and of `classify --out`, and where the videos in them are."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datamodules.annotations.records import Task
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.manifest import MANIFEST_NAME
from datamodules.storage.plain_text import printable
from pipeline.metrics.predictions import SOURCE_FIELDS, provenance_of, read_predictions
from pipeline.metrics.scored_videos import explain_damage, predictions_file


class VideoPlace(NamedTuple):
    """Where a video is.

    Attributes:
        path: path of its file, with forward slashes; relative ones begin in the folder of the videos.
        start: where in the file a segment begins, in seconds; None for a whole file.
        end: where it ends, in seconds; None for a whole file.
    """

    path: str
    start: float | None = None
    end: float | None = None

    def describe(self) -> str:
        """The path, and the times of a segment: `talk.mp4, 1.50 to 2.25 s`."""
        return (
            self.path
            if self.start is None or self.end is None
            else f"{self.path}, {self.start:.2f} to {self.end:.2f} s"
        )


class ScoreFile(NamedTuple):
    """The scores of M videos, with labels or without.

    Attributes:
        name: the path as given, for messages.
        keys: keys of the videos.
        scores: probabilities, float32 (M, K); a row of NaN is a video that could not be decoded.
        class_names: the K class names.
        task: whether a video has one class or several labels.
        provenance: plain data about the origin of the scores.
        places: where the videos are; None where the file does not say.
        folder: folder of the videos that `classify --out` read, to which the paths are relative; None for results.
    """

    name: str
    keys: Sequence[str]
    scores: NDArray[Any]
    class_names: Sequence[str]
    task: Task
    provenance: dict[str, Any]
    places: Sequence[VideoPlace] | None
    folder: Path | None

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Whether each video is without scores: bool (M,)."""
        found: NDArray[np.bool_] = np.isnan(np.asarray(self.scores)).all(axis=1)
        return found


def read_score_file(path: Path) -> ScoreFile:
    """Reads what `evaluate`, `linear` or `fuse` wrote, or `classify --out`.

    Args:
        path: folder of results, its predictions.parquet, or the file of `classify`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or has no predictions, or its scores are no probabilities.
    """
    file = predictions_file(path)
    with explain_damage(file):
        scores, table = read_predictions(file)
        provenance = provenance_of(table.schema, file)
        keys = table.column("key").to_pylist()
        class_names = list(provenance["classes"])
        scale = provenance.get("scores", "probability")  # `classify` writes probabilities alone
    if scale != "probability":
        raise ValueError(
            f"{path}: its scores are of the scale {scale!r}, not probabilities; use `linear --classifier logistic`"
        )
    task: Task = "multi_label" if provenance.get("task") == "multi_label" else "single_label"
    folder = Path(provenance["videos"]) if "path" in table.column_names and "videos" in provenance else None
    return ScoreFile(str(path), keys, scores, class_names, task, provenance, _places_in(table, folder), folder)


def _places_in(table: pa.Table, folder: Path | None) -> list[VideoPlace] | None:
    """The places that the columns give; None where there are no such columns, or they lack the times of segments."""
    if SOURCE_FIELDS[0][0] in table.column_names:
        columns = [table.column(name).to_pylist() for name, _ in SOURCE_FIELDS]
        return [VideoPlace(*values) for values in zip(*columns, strict=True)]
    if folder is None or (folder / MANIFEST_NAME).is_file():
        return None
    return [VideoPlace(path) for path in table.column("path").to_pylist()]


def open_index(data: Path | None, *files: ScoreFile) -> DatasetIndex | None:
    """The packed dataset whose videos were scored: the given one, or the one that `classify --out` read.

    Raises:
        ShardFormatError: there is no dataset at `data`.
        ValueError: a video of the files is not in the dataset.
    """
    packed = [file.folder for file in files if file.folder is not None and (file.folder / MANIFEST_NAME).is_file()]
    folder = data or next(iter(packed), None)
    if folder is None:
        return None
    index = DatasetIndex.open(folder)
    for file in files:
        absent = sorted(set(file.keys) - set(index.column("key", index.rows_of(file.keys))))
        if absent:
            raise ValueError(
                f"data={folder}: lacks {len(absent)} of the {len(file.keys)} videos of {file.name}, first "
                f"{printable(absent[0])}; name the dataset that was scored"
            )
    return index


def locate_videos(file: ScoreFile, index: DatasetIndex | None) -> list[VideoPlace]:
    """Where the M videos are: by the index, or else as the file says.

    Raises:
        ValueError: neither is there.
    """
    if index is not None:
        rows = index.rows_of(file.keys)
        names = ("source", "source_start", "source_end")
        columns = [index.column("key", rows), *(index.column(name, rows) for name in names)]
        found = {
            key: VideoPlace(source, *(None if np.isnan(time) else float(time) for time in times))
            for key, source, *times in zip(*columns, strict=True)
        }
        return [found[key] for key in file.keys]
    if file.places is None:
        raise ValueError(
            f"{file.name}: has the keys of videos and no paths; name the packed dataset whose index has them (--data)"
        )
    return list(file.places)


def take_listed(file: ScoreFile, path: Path) -> ScoreFile:
    """The videos of a list that `review` wrote, in its order.

    Args:
        file: the scores.
        path: the list, a CSV file with a column key.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such list, or has a video without scores.
    """
    with path.open(newline="", encoding="utf-8") as lines:
        try:
            keys = [row["key"] for row in csv.DictReader(lines)]
        except (KeyError, UnicodeDecodeError, csv.Error):
            raise ValueError(f"list={path}: has no column key; give the videos.csv that `review` wrote") from None
    rows = {key: number for number, key in enumerate(file.keys)}
    absent = [key for key in keys if key not in rows]
    if absent or not keys:
        found = f"has {printable(absent[0])}, which {file.name} has not" if absent else "is empty"
        raise ValueError(f"list={path}: {found}; review these predictions anew")
    numbers = [rows[key] for key in keys]
    places = None if file.places is None else [file.places[number] for number in numbers]
    return file._replace(keys=keys, scores=np.asarray(file.scores)[numbers], places=places)
