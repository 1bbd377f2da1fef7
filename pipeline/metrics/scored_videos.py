"""`ScoredVideos`: scores with the labels, keys and groups of their videos, in memory or from predictions.parquet."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datamodules.annotations.records import Task
from datamodules.splits.split_file import describe_groups
from lightning_modules.tasks.label_task import refuse_other_task
from pipeline.metrics.accuracy import rank_of_label
from pipeline.metrics.confidence_intervals import PredictionCorrectness, number_groups
from pipeline.metrics.predictions import PREDICTIONS_NAME, provenance_of, read_labels, read_predictions


class ScoredVideos(NamedTuple):
    """Scores of M videos, with their labels, keys and groups.

    Attributes:
        scores: float (M, K), higher is likelier; a row of NaN is a video that could not be decoded,
            and counts as wrong.
        labels: integers (M,), class numbers in [0, K); with several labels a video (M, K), 1 for each of its classes.
        class_names: the K class names, in the order of the labels.
        keys: the M video keys, unique.
        groups: the M groups, the source that each video was cut from; "" where it has none.
        provenance: plain data about the origin of the scores: `scores` is their scale (`probability` or another),
            `classes` the class names, `split_file` its name and digests or None, `overlap` the leakage (numbers of
            `videos`, `content`, `groups`; `of`) or None.
    """

    scores: NDArray[Any]
    labels: NDArray[Any]
    class_names: Sequence[str]
    keys: Sequence[str]
    groups: Sequence[str]
    provenance: Mapping[str, Any]

    @property
    def task(self) -> Task:
        """`multi_label` where the videos have several labels, else `single_label`."""
        return "multi_label" if np.ndim(self.labels) == 2 else "single_label"

    @property
    def grouping(self) -> str:
        """Which groups intervals are of: `groups`, or `groups of split file NAME`."""
        return describe_groups(self.provenance.get("split_file"))

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Whether each video is without scores: bool (M,)."""
        found: NDArray[np.bool_] = np.isnan(np.asarray(self.scores)).all(axis=1)
        return found


def compute_correctness(scored: ScoredVideos) -> PredictionCorrectness:
    """Right or wrong for each video, at top-1 and top-5, with labels and groups."""
    labels = np.asarray(scored.labels, dtype=np.int64)
    ranks = rank_of_label(np.asarray(scored.scores), labels, scored.missing)
    groups = number_groups(scored.groups, scored.keys)
    return PredictionCorrectness(labels, ranks == 0, ranks < 5, groups, len(scored.class_names))


def predicted_classes(scored: ScoredVideos) -> NDArray[np.int64]:
    """The predicted class of each video: int64 (M,), -1 for a video without scores."""
    missing = scored.missing
    best = np.where(missing[:, None], 0, np.asarray(scored.scores)).argmax(axis=1)
    return np.where(missing, -1, best).astype(np.int64)


def read_scored_videos(path: Path) -> ScoredVideos:
    """Reads the predictions that `evaluate`, `linear` or `fuse` wrote.

    Args:
        path: the folder of results, or the predictions.parquet in it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or has no predictions.
    """
    file = predictions_file(path)
    with explain_damage(file):
        scores, table = read_predictions(file)
        provenance = provenance_of(table.schema, file)
        keys, labels = table.column("key").to_pylist(), read_labels(table, len(provenance["classes"]))
        groups = table.column("group").to_pylist() if "group" in table.schema.names else [""] * len(keys)
        return ScoredVideos(scores, labels, provenance["classes"], keys, groups, provenance)


def predictions_file(path: Path) -> Path:
    """The file of predictions that a path names: itself, or the one in a folder of results.

    Raises:
        FileNotFoundError: there is no such file.
    """
    file = path / PREDICTIONS_NAME if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"predictions {str(path)!r}: no {PREDICTIONS_NAME} there; `evaluate` writes it")
    return file


@contextmanager
def explain_damage(file: Path) -> Iterator[None]:
    """Context manager that raises ValueError, in one sentence, for a file of predictions that cannot be read."""
    try:
        yield
    except (pa.ArrowException, KeyError, OSError) as error:  # OSError: a damaged page of the Parquet file
        cause = str(error).splitlines()[0]
        raise ValueError(f"predictions {str(file)!r}: not a file that `evaluate` wrote, or damaged ({cause})") from None


def concatenate(results: Sequence[ScoredVideos], provenance: Mapping[str, Any]) -> ScoredVideos | None:
    """Concatenates the videos of several results; None where two of them share a video."""
    keys = [key for scored in results for key in scored.keys]
    if len(set(keys)) < len(keys):
        return None
    return ScoredVideos(
        scores=np.concatenate([np.asarray(scored.scores) for scored in results]),
        labels=np.concatenate([np.asarray(scored.labels) for scored in results]),
        class_names=results[0].class_names,
        keys=keys,
        groups=[group for scored in results for group in scored.groups],
        provenance=provenance,
    )


def align(results: Sequence[ScoredVideos], names: Sequence[str], common: bool = False) -> list[ScoredVideos]:
    """Takes the same videos from each result, in the order of the first, with the groups of the first that has any.

    Args:
        results: the results, at least one.
        names: a name for each result, for messages.
        common: take only the videos that all results have, instead of refusing results of different videos.

    Raises:
        ValueError: classes or labels differ; or, without `common`, videos differ; or no video is in all results.
    """
    first = results[0]
    shared = set(first.keys).intersection(*(other.keys for other in results[1:]))
    if not shared:
        raise ValueError(f"{' and '.join(names)} have no video in common")
    aligned = []
    for scored, name in zip(results, names, strict=True):
        remedy = "compare and fuse take results of one task"
        refuse_other_task(names[0], first.task, name, scored.task, remedy)
        refuse_other_classes(first.class_names, scored.class_names, names[0], name)
        num_unshared = len(set(scored.keys) - shared)
        if num_unshared and not common:
            raise ValueError(
                f"{name} has {num_unshared} videos that not all others have, and {len(shared)} that all have: evaluate "
                "the same split, or give --common to take only those"
            )
        row_of_key = {key: number for number, key in enumerate(scored.keys)}
        rows = [row_of_key[key] for key in first.keys if key in shared]
        aligned.append(_take_rows(scored, rows))
    for scored, name in zip(aligned, names, strict=True):
        is_other = scored.labels != aligned[0].labels
        differing = np.flatnonzero(is_other if scored.task == "single_label" else is_other.any(axis=1))
        if len(differing):
            key = scored.keys[int(differing[0])]
            raise ValueError(f"{names[0]} and {name}: {len(differing)} videos have different labels, first {key}")
    groups = next((scored.groups for scored in aligned if any(scored.groups)), aligned[0].groups)
    return [scored._replace(groups=groups) for scored in aligned]


def _take_rows(scored: ScoredVideos, rows: Sequence[int]) -> ScoredVideos:
    return scored._replace(
        scores=np.asarray(scored.scores)[rows],
        labels=np.asarray(scored.labels)[rows],
        keys=[scored.keys[row] for row in rows],
        groups=[scored.groups[row] for row in rows],
    )


def refuse_other_classes(
    expected: Sequence[str], found: Sequence[str], expected_source: str, found_source: str
) -> None:
    """Raises ValueError unless both lists have the same classes in the same order; the message says how they differ."""
    if list(expected) == list(found):
        return
    differences = []
    for names, others, source in ((expected, found, expected_source), (found, expected, found_source)):
        unshared = [name for name in names if name not in others]
        if unshared:
            others_suffix = f" and {len(unshared) - 3} more" if len(unshared) > 3 else ""
            differences.append(f"only {source} has {', '.join(map(repr, unshared[:3]))}{others_suffix}")
    if not differences:
        position = next(i for i, (one, other) in enumerate(zip(expected, found, strict=True)) if one != other)
        differences.append(f"their order differs, class {position} is {expected[position]!r} and {found[position]!r}")
    raise ValueError(f"{expected_source} and {found_source} have different classes: {'; '.join(differences)}")
