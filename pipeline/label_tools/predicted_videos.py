"""Predictions of videos in the form of labels: classes of whole files and of parts, with probabilities."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datamodules.annotations.records import Task
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.storage.plain_text import printable
from pipeline.label_tools.score_files import ScoreFile, VideoPlace, locate_videos

MULTI_LABEL_THRESHOLD = 0.5  # default of the least probability of a label, where a video may have several


class PredictedLabel(NamedTuple):
    """A predicted class of a file or of a part of it.

    Attributes:
        name: name of the class.
        probability: in [0, 1].
        start: beginning of the part in the file, in seconds; None: the whole file.
        end: end of the part, in seconds; None: the whole file.
    """

    name: str
    probability: float
    start: float | None = None
    end: float | None = None

    @property
    def is_part(self) -> bool:
        """Whether the label is of a part of the file."""
        return self.start is not None


class PredictedVideo(NamedTuple):
    """A video file with its predicted labels, which may be none: those of parts by time, then the most probable."""

    path: str
    labels: Sequence[PredictedLabel]


class Predictions(NamedTuple):
    """Predictions of video files.

    Attributes:
        videos: the files, in the order of the list; each once.
        class_names: names of the classes, in the order of the scores; those that are in JSON lines, sorted.
        task: whether a file, or a part of it, has one class or several labels.
        model: what made them, for a person.
        num_failed: number of videos that could not be decoded, and are left out.
    """

    videos: Sequence[PredictedVideo]
    class_names: Sequence[str]
    task: Task
    model: str
    num_failed: int


def label_scores(file: ScoreFile, index: DatasetIndex | None, threshold: float | None) -> Predictions:
    """Labels of the videos in a file of scores; segments of one source are parts of one file.

    Args:
        file: the scores.
        index: the packed dataset that was scored, if it is known.
        threshold: least probability of a label; None: 0.5 where videos have several labels, else the best class always.

    Raises:
        ValueError: neither the file nor the index says where the videos are.
    """
    places = locate_videos(file, index)
    labels: dict[str, list[PredictedLabel]] = {}
    for place, scores, is_missing in zip(places, file.scores, file.missing.tolist(), strict=True):
        if not is_missing:
            labels.setdefault(place.path, []).extend(_choose_labels(file, scores, place, threshold))
    videos = [PredictedVideo(path, _in_order(chosen)) for path, chosen in labels.items()]
    return Predictions(videos, file.class_names, file.task, _describe_model(file), int(file.missing.sum()))


def _choose_labels(
    file: ScoreFile, scores: np.ndarray, place: VideoPlace, threshold: float | None
) -> list[PredictedLabel]:
    order = np.argsort(-scores, kind="stable")
    if file.task == "single_label":
        chosen = [label for label in order[:1].tolist() if scores[label] >= (threshold or 0)]
    else:
        least = MULTI_LABEL_THRESHOLD if threshold is None else threshold
        chosen = [label for label in order.tolist() if scores[label] >= least]
    return [
        PredictedLabel(file.class_names[label], round(float(scores[label]), 6), place.start, place.end)
        for label in chosen
    ]


def _describe_model(file: ScoreFile) -> str:
    about = file.provenance
    if about.get("fused"):
        return f"{len(about['fused'])} fused results"
    names = [Path(str(about.get("checkpoint", file.name))).name, str(about.get("checkpoint_sha256") or "")[:12]]
    return " ".join(filter(None, names))


def label_json_lines(path: Path, index: DatasetIndex | None, threshold: float | None) -> Predictions:
    """Labels of the videos in what `classify --json` printed.

    With a timeline the labels are its stretches, parts of the file; else the `labels`, or without these the best class.

    Args:
        path: the file with the lines.
        index: a packed dataset, for lines of its videos.
        threshold: least probability of a label; None: all.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not one that `classify --json` prints, or is of a packed video whose dataset is not given.
    """
    labels: dict[str, list[PredictedLabel]] = {}
    names: set[str] = set()
    num_failed, task = 0, "single_label"
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="surrogateescape").splitlines(), 1):
        if not line.strip():
            continue
        entry = _parse_line(line, f"{path}, line {number}")
        if "error" in entry:
            num_failed += 1
            continue
        task = "multi_label" if "labels" in entry else task
        place = _place_of(entry, index, f"{path}, line {number}")
        chosen = [one for one in _read_labels(entry, place) if one.probability >= (threshold or 0)]
        labels.setdefault(place.path, []).extend(chosen)
        names.update(one["class"] for one in entry["top"])
        names.update(one.name for one in chosen)
    videos = [PredictedVideo(path, _in_order(chosen)) for path, chosen in labels.items()]
    return Predictions(
        videos, sorted(names), "multi_label" if task == "multi_label" else "single_label", "", num_failed
    )


def _parse_line(line: str, location: str) -> Mapping[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or not isinstance(entry.get("video"), str) or not entry.keys() & {"top", "error"}:
        raise ValueError(f"{location}: is not a line that `classify --json` prints, an object with video and top")
    return entry


def _place_of(entry: Mapping[str, Any], index: DatasetIndex | None, location: str) -> VideoPlace:
    """The file of a line; of a packed video its source, with the times of a segment."""
    if isinstance(entry.get("source"), str):  # a segment, whose stretches have times of its source already
        return VideoPlace(entry["source"])
    video = entry["video"]
    folder, _, key = video.rpartition("/")
    if not (Path(folder) / "dataset.json").is_file() and (index is None or Path(folder) != Path(index.root)):
        return VideoPlace(video)
    if index is None or not len(rows := index.rows_of([key])):
        raise ValueError(
            f"{location}: {printable(video)} is a video of a packed dataset; name that dataset, whose index has the "
            "paths of the files (--data)"
        )
    found = index.entry(int(rows[0]))
    return VideoPlace(found.source, found.source_start, found.source_end)


def _read_labels(entry: Mapping[str, Any], place: VideoPlace) -> list[PredictedLabel]:
    """The labels of a line; times of a timeline are those of the file already, or of a whole one."""
    try:
        if "stretches" in entry:
            return [
                PredictedLabel(one["class"], float(one["probability"]), float(one["start"]), float(one["end"]))
                for one in entry["stretches"]
            ]
        chosen = entry["labels"] if "labels" in entry else entry["top"][:1]
        return [PredictedLabel(one["class"], float(one["probability"]), place.start, place.end) for one in chosen]
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{printable(entry['video'])}: its line is not one that `classify --json` prints; classify the video again"
        ) from None


def _in_order(labels: Iterable[PredictedLabel]) -> list[PredictedLabel]:
    """Labels of the whole file by probability, the highest first, then those of parts by time."""
    return sorted(labels, key=lambda one: (one.is_part, one.start or 0.0, one.end or 0.0, -one.probability))
