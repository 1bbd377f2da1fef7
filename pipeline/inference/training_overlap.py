"""Training overlap: the videos that a network or classifier was trained on, found by key, content and group."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.inference.trained_checkpoint import TrainedCheckpoint

OverlapCounts = dict[str, int]
Flags = NDArray[np.bool_]


class TrainingOverlap(NamedTuple):
    """Flags of the M videos that overlap with the training videos.

    Attributes:
        videos: bool (M,), whether the video itself was trained on.
        content: bool (M,), whether a video with the same content was trained on.
        groups: bool (M,), whether a video of the same group was trained on.
        group_names: group of each of the M videos: the source that it was cut from.
    """

    videos: Flags
    content: Flags
    groups: Flags
    group_names: Sequence[str]

    @property
    def any(self) -> Flags:
        """Videos that are not held out, for any reason: bool (M,)."""
        return self.videos | self.content | self.groups

    def counts(self) -> OverlapCounts | None:
        """Counts the overlap for a report; None if all videos are held out.

        Returns:
            videos: videos trained on; content: other videos with the same content as a training video; groups: distinct
            groups trained on; of: M.
        """
        if not self.any.any():
            return None
        groups = {name for name, flag in zip(self.group_names, self.groups, strict=True) if flag}
        counts = {"videos": int(self.videos.sum()), "content": int((self.content & ~self.videos).sum())}
        return counts | {"groups": len(groups), "of": len(self.videos)}


def overlap_with_keys(
    trained_keys: Iterable[str], trained_groups: Iterable[str], keys: Sequence[str], groups: Sequence[str]
) -> TrainingOverlap:
    """Finds the overlap with training videos that are known by their keys and groups.

    Args:
        trained_keys: keys of the training videos.
        trained_groups: groups of the training videos; "" for none.
        keys: keys of the M videos.
        groups: groups of the M videos; "" for none.
    """
    training_keys, training_groups = set(trained_keys), set(trained_groups) - {""}
    videos = np.array([key in training_keys for key in keys], dtype=bool)
    shared = np.array([group in training_groups for group in groups], dtype=bool)
    return TrainingOverlap(videos, np.zeros(len(videos), dtype=bool), shared, groups)


def overlap_with_checkpoint(
    trained: TrainedCheckpoint, index: DatasetIndex, rows: NDArray[np.int64]
) -> TrainingOverlap:
    """Finds the overlap of videos of a dataset with the known training videos of a checkpoint.

    In any rendition of the training dataset, videos are compared by key and group. In any dataset they are compared
    with the fingerprints in the checkpoint (`datamodules.leakage.training_fingerprint`) by bytes, content of the frames
    and group names, including the trainings whose weights it started from.

    Args:
        trained: the checkpoint.
        index: the index of the dataset.
        rows: row numbers of the M videos in the index, int64 (M,).
    """
    training_rows, same_splits = np.empty(0, np.int64), trained.has_splits_of(index)
    if same_splits:
        training_rows = index.rows(trained.dataset["train_split"], trained.dataset["fold"])
    keys, groups = (list(index.column(name, rows)) for name in ("key", "group"))
    overlap = overlap_with_keys(index.column("key", training_rows), index.column("group", training_rows), keys, groups)
    for fingerprint in filter(None, trained.fingerprints):
        found = fingerprint.find(index, rows)
        if trained.family == index.manifest.family and not same_splits and fingerprint is trained.fingerprints[0]:
            overlap = overlap._replace(videos=found.content)
        overlap = overlap._replace(content=overlap.content | found.content, groups=overlap.groups | found.groups)
    return overlap


def refuse_overlap(counts: OverlapCounts | None, subject: str, remedy: str) -> None:
    """Raises ValueError with the counts if there is an overlap.

    Args:
        counts: result of `TrainingOverlap.counts`.
        subject: start of the message: the argument with its value, and the trained object.
        remedy: advice, besides `--allow-overlap`.
    """
    if counts is None:
        return
    content_phrase = f", on {counts['content']} more that show the same" if counts["content"] else ""
    raise ValueError(
        f"{subject} was trained on {counts['videos']} of its {counts['of']} videos{content_phrase}, and "
        f"{counts['groups']} of its groups: {remedy}, or give --allow-overlap"
    )


def training_videos_known(trained: TrainedCheckpoint) -> bool:
    """Whether all training videos are known; false for published or foreign checkpoints and trainings from them."""
    last, *earlier = trained.fingerprints
    return (last is not None or trained.family is not None) and all(fingerprint is not None for fingerprint in earlier)


def training_split(trained: TrainedCheckpoint) -> dict[str, Any] | None:
    """Returns name, split and fold of the training dataset, for metadata; None if unknown."""
    if trained.family is None:
        return None
    dataset = trained.dataset
    return {"dataset": dataset["name"], "split": dataset["train_split"], "fold": dataset["fold"]}
