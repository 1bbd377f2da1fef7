"""The list and the page of a review."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.label_tools.review_order import answers
from pipeline.label_tools.score_files import ScoreFile, VideoPlace
from pipeline.report.pictures import Preview
from pipeline.report.rendering import percent, render

LIST_NAME, PAGE_NAME = "videos.csv", "review.html"
_ORIGIN = ("checkpoint", "checkpoint_sha256", "model", "dataset", "split", "fold", "videos")


class ReviewedVideo(NamedTuple):
    """A video to label.

    Attributes:
        number: its row in the results.
        key: its key.
        place: its file, and its times there.
        figures: margin, and of two results disagreement.
        near_duplicates: keys of the videos that show the same, and are left out.
    """

    number: int
    key: str
    place: VideoPlace
    figures: Mapping[str, float]
    near_duplicates: Sequence[str]


class Answer(NamedTuple):
    """What a result says of a video: its classes with their probabilities, and the class that comes next."""

    classes: Sequence[tuple[str, float]]
    next_class: tuple[str, float] | None

    def describe(self) -> str:
        """One line: `run 52 %, or walk 40 %`."""
        named = " and ".join(f"{name} {percent(share, 0)}" for name, share in self.classes) or "no label"
        return (
            named if self.next_class is None else f"{named}, or {self.next_class[0]} {percent(self.next_class[1], 0)}"
        )


def answer_of(file: ScoreFile, number: int, threshold: float) -> Answer:
    """What a result says of the video in row `number`; with several labels, a class is one from `threshold` on."""
    scores = np.asarray(file.scores[number], dtype=np.float64)
    given = answers(scores[None], file.task, threshold)[0]
    order = np.argsort(-scores, kind="stable").tolist()
    ranked = [(file.class_names[label], float(scores[label]), bool(given[label])) for label in order]
    return Answer(
        [(name, score) for name, score, is_given in ranked if is_given],
        next(((name, score) for name, score, is_given in ranked if not is_given), None),
    )


def write_list(videos: Sequence[ReviewedVideo], files: Sequence[ScoreFile], threshold: float) -> str:
    """The list as CSV, with an empty column of labels to fill in; `pack` reads it, and ignores the further columns.

    Columns: path; start and end in seconds if there are segments; label, or labels for several a video; key; predicted,
    probability (of the best class), next_class; of a second result these with second_ before them; margin,
    disagreement; near_duplicates.

    Args:
        videos: the videos, in order.
        files: the results.
        threshold: probability from which on a class is a label; for several labels.
    """
    several = files[0].task == "multi_label"
    rows = []
    for video in videos:
        row: dict[str, Any] = {"path": video.place.path}
        if any(one.place.start is not None for one in videos):
            row |= {"start": _number(video.place.start), "end": _number(video.place.end)}
        row |= {"labels" if several else "label": "", "key": video.key}
        for prefix, file in zip(("", "second_"), files, strict=False):
            answer = answer_of(file, video.number, threshold)
            names = [name for name, _ in answer.classes]
            best = max((score for _, score in [*answer.classes, *filter(None, [answer.next_class])]), default=0.0)
            row[f"{prefix}predicted"] = json.dumps(names, ensure_ascii=False) if several else names[0]
            row[f"{prefix}probability"] = f"{best:.6f}"
            row[f"{prefix}next_class"] = answer.next_class[0] if answer.next_class else ""
        row |= {name: f"{value:.6f}" for name, value in video.figures.items()}
        rows.append(row | {"near_duplicates": ";".join(video.near_duplicates)})
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _number(value: float | None) -> str:
    return "" if value is None else repr(value)  # exact: the frames are found by it


class ShownReviewedVideo(NamedTuple):
    """A video on the page."""

    key: str
    place: str
    lines: Sequence[str]
    left_out: int
    preview: Preview | None


def draw_page(
    videos: Sequence[ReviewedVideo],
    previews: Sequence[Preview | None],
    files: Sequence[ScoreFile],
    facts: Sequence[str],
    threshold: float,
) -> str:
    """The page as HTML.

    Args:
        videos: the videos, in order.
        previews: their previews; None for a video that cannot be decoded.
        files: the results.
        facts: phrases on how many videos there are.
        threshold: probability from which on a class is a label; for several labels.
    """
    lead = "Videos of which the result is least certain, the least certain first."
    if len(files) == 2:
        lead = "Videos of which two results say different things first, each by the divergence of their probabilities."
    shown = []
    for video, preview in zip(videos, previews, strict=True):
        lines = [answer_of(file, video.number, threshold).describe() for file in files]
        lines.append(", ".join(f"{name} {value:.2f}" for name, value in video.figures.items()))
        place = video.place.describe()
        shown.append(ShownReviewedVideo(video.key, place, lines, len(video.near_duplicates), preview))
    origins = {file.name: {name: file.provenance.get(name) for name in _ORIGIN} for file in files}
    title = f"{len(videos)} videos to label"
    return render(
        "review.html", title=title, facts=facts, lead=lead, videos=shown, origins=origins, list_name=LIST_NAME
    )
