"""`refuse_unlabelled_videos`: scores are evaluated against labels, which official test lists lack."""

from pathlib import Path

import numpy as np

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.dataset.index_table import NO_LABEL


def refuse_unlabelled_videos(index: DatasetIndex, rows: np.ndarray, split: str, root: Path) -> None:
    """Refuses videos without a label in a dataset of one label a video that has classes.

    Args:
        index: the dataset.
        rows: row numbers of the videos to be evaluated, int64.
        split: their split, for the message.
        root: folder of the dataset, for the message.

    Raises:
        ValueError: a video has no label.
    """
    if index.task == "multi_label" or not index.classes:
        return
    count = int((np.asarray(index.column("label", rows)) == NO_LABEL).sum())
    if count:
        raise ValueError(
            f"data={str(root)!r}: {count} of the {len(rows)} videos of split {split!r} have no label, and scores are "
            "evaluated against labels; evaluate another split, or use `features` or `predict`"
        )
