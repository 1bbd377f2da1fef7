"""Is a split held out: which of its videos a checkpoint was trained on, by row, by content and by group."""

from typing import Any

import numpy as np

from datamodules.datamodule import ShardedVideoDataModule
from pipeline.inference.trained_checkpoint import TrainedCheckpoint, split_row_numbers

Overlap = dict[str, int]


def find_training_overlap(trained: TrainedCheckpoint, videos: ShardedVideoDataModule) -> Overlap | None:
    """How much of a split a checkpoint was trained on; None where nothing, as far as is known.

    In the dataset that it was trained on, in any rendition, by rows and groups. In any dataset by what the checkpoint
    carries (`datamodules.leakage.training_fingerprint`): bytes, what the frames show, and the names of groups; also of
    what the weights that it started from were trained on.

    Returns:
        videos: of the split that were trained on; content: others that show the same as a video that was; groups: of
        the split that were; of: all videos of the split.
    """
    index, asked = videos.index, split_row_numbers(videos)
    same = np.zeros(len(asked), dtype=bool)
    names = np.asarray(index.column("group", asked), dtype=object)
    groups: set[Any] = set()
    if trained.family == index.manifest.family:
        seen = index.rows(trained.dataset["train_split"], trained.dataset["fold"])
        same = np.isin(asked, seen)
        groups = {group for group in set(index.column("group", seen)) & set(names) if group}
    content = np.zeros(len(asked), dtype=bool)
    for seen_videos in filter(None, trained.seen):
        found = seen_videos.find(index, asked)
        content |= found.content & ~same
        groups |= set(names[found.groups])
    if not (same.any() or content.any() or groups):
        return None
    counts = {"videos": int(same.sum()), "content": int(content.sum()), "groups": len(groups)}
    return counts | {"of": len(asked)}


def refuse_overlap(overlap: Overlap | None, split: str) -> None:
    """Raises ValueError, with the counts, where there is any."""
    if overlap is None:
        return
    more = f", on {overlap['content']} more that show the same" if overlap["content"] else ""
    raise ValueError(
        f"split={split!r}: the checkpoint was trained on {overlap['videos']} of its {overlap['of']} videos{more}, and "
        f"{overlap['groups']} of its groups: choose a held-out split, or say --allow-overlap"
    )


def what_was_trained_on_is_known(trained: TrainedCheckpoint) -> bool:
    """Whether `find_overlap` can find all: not for published weights, what started from them, others' checkpoints."""
    own, *before = trained.seen
    return (own is not None or trained.family is not None) and all(one is not None for one in before)
