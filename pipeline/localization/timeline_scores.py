"""Class scores of each second of many long videos, video by video, in parts that a stopped evaluation goes on from."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.classify.timeline import score_seconds
from pipeline.classify.video_input import Preprocessing
from pipeline.classify.video_scores import VideoScorer
from pipeline.cli.progress import count_progress
from pipeline.inference.part_folder import PartFolder
from pipeline.inference.part_rows import ROW, PartRows
from pipeline.metrics.predictions import fixed_size_lists, from_fixed_size_lists, with_provenance

TIMELINES_NAME = "timelines.parquet"


class Timeline(NamedTuple):
    """The class scores of each second of a video, float32 (S, K), and its duration in seconds."""

    scores: NDArray[np.float32]
    duration_s: float


def timeline_schema(num_classes: int, provenance: Mapping[str, Any]) -> pa.Schema:
    """Columns: video (its path), duration (seconds, float64), second (int32), scores (K float32); a row a second."""
    columns = [("video", pa.string()), ("duration", pa.float64()), ("second", pa.int32())]
    return with_provenance(pa.schema([*columns, ("scores", pa.list_(pa.float32(), num_classes))]), provenance)


def score_videos(
    paths: Sequence[str], preprocessing: Preprocessing, scorer: VideoScorer, out: Path, schema: pa.Schema
) -> Iterator[pa.Table]:
    """Scores the videos that no earlier run has scored, and yields the rows of all, in the order of `paths`.

    Args:
        paths: paths of the videos.
        preprocessing: the preprocessing of the network.
        scorer: the network.
        out: the file that the rows go to; the parts are in `out`.parts beside it, and stay.
        schema: `timeline_schema`, whose provenance has all that the rows depend on.

    Raises:
        DecodeError: a video cannot be decoded; videos before it are kept.
        ValueError: parts of other settings are there, or another evaluation writes them.
    """
    settings = {"provenance": schema.metadata[b"provenance"].decode(), "videos": list(paths)}
    rows = schema.append(pa.field(ROW, pa.int64())).remove_metadata()
    folder = PartFolder(out, settings, overwrite=False, remedy="remove that folder")
    folder.open()
    try:
        done = set(PartRows(folder.parts(), rows).videos.tolist())
        with count_progress("evaluate", len(paths) - len(done), "videos") as count:
            for number, path in enumerate(paths):
                if number not in done:
                    scores, duration_s = score_seconds(preprocessing, preprocessing.frames_of(path), scorer)
                    folder.save(_rows_of(number, path, Timeline(scores, duration_s), rows))
                    count()
        yield from PartRows(folder.parts(), rows).restrict(np.arange(len(paths)), out).tables()
    finally:
        folder.close()


def _rows_of(number: int, path: str, timeline: Timeline, schema: pa.Schema) -> pa.Table:
    length = len(timeline.scores)
    columns = {
        "video": [path] * length,
        "duration": np.full(length, timeline.duration_s),
        "second": np.arange(length, dtype=np.int32),
        "scores": fixed_size_lists(timeline.scores),
        ROW: np.full(length, number),
    }
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


def timelines_of(table: pa.Table, paths: Sequence[str]) -> list[Timeline]:
    """The timelines of videos, from their rows in the order of `paths`; each row begins with second 0."""
    scores, durations = from_fixed_size_lists(table.column("scores")), table.column("duration").to_numpy()
    starts = np.flatnonzero(table.column("second").to_numpy() == 0).tolist()
    assert len(starts) == len(paths)
    return [
        Timeline(scores[first:last], float(durations[first])) for first, last in pairwise([*starts, len(durations)])
    ]
