"""Which videos a checkpoint was trained on, as far as it is known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.shards import DatasetIndex
from pipeline.trained import Trained


class SeenVideos:
    """Tells of videos whether a checkpoint was trained on them, or on others of their group.

    Known is what was trained on for checkpoints of this very dataset, in any rendition: by its family.

    Args:
        trained: the checkpoint.
        index: of the dataset.

    Attributes:
        trained_on: name, split and fold of what it was trained on, where that is this dataset; else None.
    """

    def __init__(self, trained: Trained, index: DatasetIndex) -> None:
        self._rows: NDArray[np.int64] = np.empty(0, np.int64)
        self._groups: set[str] = set()
        self.trained_on: dict[str, Any] | None = None
        if trained.family == index.manifest.family:
            split, fold = trained.dataset["train_split"], trained.dataset["fold"]
            self.trained_on = {"dataset": index.name, "split": split, "fold": fold}
            self._rows = index.rows(split, fold)
            self._groups = set(index.column("group", self._rows)) - {""}

    def __call__(self, rows: NDArray[np.int64], groups: Sequence[str]) -> NDArray[np.bool_]:
        """For videos by their rows in the index, ascending or not, and their groups: bool (M,)."""
        of_group = [group in self._groups for group in groups]
        seen: NDArray[np.bool_] = np.isin(rows, self._rows) | np.array(of_group, dtype=bool)
        return seen
