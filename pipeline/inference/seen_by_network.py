"""Which videos of a dataset a network was trained on, as far as it is known: a column of exported features."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.inference.trained_checkpoint import TrainedCheckpoint


def seen_by_network(trained: TrainedCheckpoint, index: DatasetIndex, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For videos, whether the network was trained on them, on what shows the same, or on others of their group.

    Known are the rows of the dataset that it was trained on, in any rendition; in any other dataset, what the
    checkpoint carries (`datamodules.leakage.training_fingerprint`); also of the trainings whose weights it started
    from.

    Args:
        trained: the checkpoint.
        index: of the dataset.
        rows: of the M videos in the index, int64 (M,).

    Returns:
        bool (M,).
    """
    seen = np.zeros(len(rows), dtype=bool)
    if trained.family == index.manifest.family:
        known = index.rows(trained.dataset["train_split"], trained.dataset["fold"])
        groups = set(index.column("group", known)) - {""}
        seen |= np.isin(rows, known) | np.array([group in groups for group in index.column("group", rows)], dtype=bool)
    for videos in filter(None, trained.seen):
        found = videos.find(index, rows)
        seen |= found.content | found.groups
    return seen


def trained_on(trained: TrainedCheckpoint) -> dict[str, Any] | None:
    """Name, split and fold of what it was trained on, for metadata; None where it is not known."""
    if trained.family is None:
        return None
    told = trained.dataset
    return {"dataset": told["name"], "split": told["train_split"], "fold": told["fold"]}
