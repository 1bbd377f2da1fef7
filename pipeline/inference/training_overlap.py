"""Training overlap: which of some videos a network or a classifier was trained on, by key, by content and by group."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.inference.trained_checkpoint import TrainedCheckpoint

OverlapCounts = dict[str, int]
Flags = NDArray[np.bool_]


class TrainingOverlap(NamedTuple):
    """Which of M videos were trained on.

    Attributes:
        videos: bool (M,), the video itself.
        content: bool (M,), another video that shows the same.
        groups: bool (M,), a video of its group.
        group_names: of the M videos, the source that each was cut from.
    """

    videos: Flags
    content: Flags
    groups: Flags
    group_names: Sequence[str]

    @property
    def any(self) -> Flags:
        """Videos that are not held out, for whichever reason: bool (M,)."""
        return self.videos | self.content | self.groups

    def counts(self) -> OverlapCounts | None:
        """Numbers for a report; None where everything is held out.

        Returns:
            videos: trained on; content: others that show the same as a video that was; groups: distinct ones; of: M.
        """
        if not self.any.any():
            return None
        groups = {name for name, flag in zip(self.group_names, self.groups, strict=True) if flag}
        counts = {"videos": int(self.videos.sum()), "content": int((self.content & ~self.videos).sum())}
        return counts | {"groups": len(groups), "of": len(self.videos)}


def overlap_with_keys(
    trained_keys: Iterable[str], trained_groups: Iterable[str], keys: Sequence[str], groups: Sequence[str]
) -> TrainingOverlap:
    """The overlap of videos with training videos that are known by their keys and groups.

    Args:
        trained_keys: of the training videos.
        trained_groups: of the training videos; "" is no group.
        keys: of M videos.
        groups: of the M videos; "" where a video has none.
    """
    known_keys, known_groups = set(trained_keys), set(trained_groups) - {""}
    videos = np.array([key in known_keys for key in keys], dtype=bool)
    shared = np.array([group in known_groups for group in groups], dtype=bool)
    return TrainingOverlap(videos, np.zeros(len(videos), dtype=bool), shared, groups)


def overlap_with_checkpoint(
    trained: TrainedCheckpoint, index: DatasetIndex, rows: NDArray[np.int64]
) -> TrainingOverlap:
    """The overlap of videos of a dataset with what a checkpoint was trained on, as far as that is known.

    In the dataset that it was trained on, in any rendition, by keys and groups. In any dataset by what the checkpoint
    carries (`datamodules.leakage.training_fingerprint`): bytes, what the frames show, and the names of groups; also of
    the trainings whose weights it started from.

    Args:
        trained: the checkpoint.
        index: of the dataset.
        rows: of the M videos in the index, int64 (M,).
    """
    known = np.empty(0, np.int64)
    if trained.family == index.manifest.family:
        known = index.rows(trained.dataset["train_split"], trained.dataset["fold"])
    keys, groups = (list(index.column(name, rows)) for name in ("key", "group"))
    overlap = overlap_with_keys(index.column("key", known), index.column("group", known), keys, groups)
    for fingerprint in filter(None, trained.seen):
        found = fingerprint.find(index, rows)
        overlap = overlap._replace(content=overlap.content | found.content, groups=overlap.groups | found.groups)
    return overlap


def refuse_overlap(counts: OverlapCounts | None, subject: str, remedy: str) -> None:
    """Raises ValueError, with the counts, where there is an overlap.

    Args:
        counts: of `TrainingOverlap.counts`.
        subject: begins the sentence: the argument with its value, and what was trained.
        remedy: what to do instead, besides `--allow-overlap`.
    """
    if counts is None:
        return
    more = f", on {counts['content']} more that show the same" if counts["content"] else ""
    raise ValueError(
        f"{subject} was trained on {counts['videos']} of its {counts['of']} videos{more}, and {counts['groups']} of "
        f"its groups: {remedy}, or say --allow-overlap"
    )


def training_videos_known(trained: TrainedCheckpoint) -> bool:
    """Whether the overlap is complete: not for published weights, what started from them, others' checkpoints."""
    own, *before = trained.seen
    return (own is not None or trained.family is not None) and all(one is not None for one in before)


def training_split(trained: TrainedCheckpoint) -> dict[str, Any] | None:
    """Name, split and fold of the dataset that a checkpoint was trained on, for metadata; None where not known."""
    if trained.family is None:
        return None
    dataset = trained.dataset
    return {"dataset": dataset["name"], "split": dataset["train_split"], "fold": dataset["fold"]}
