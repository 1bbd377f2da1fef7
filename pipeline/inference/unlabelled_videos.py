"""`refuse_unlabelled_videos`: scores are evaluated against labels, which official test lists lack."""

from pathlib import Path

import numpy as np

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.loading.training_plan import count_unlabelled


def refuse_unlabelled_videos(index: DatasetIndex, rows: np.ndarray, split: str, root: Path) -> None:
    """Refuses videos without a label in a dataset that has classes, as `count_unlabelled` counts them.

    Args:
        index: the dataset.
        rows: row numbers of the videos to be evaluated, int64.
        split: their split, for the message.
        root: folder of the dataset, for the message.

    Raises:
        ValueError: there are such videos.
    """
    if index.classes and (count := count_unlabelled(index, rows)):
        raise ValueError(
            f"data={str(root)!r}: {count} of the {len(rows)} videos of split {split!r} have no label, and scores are "
            "evaluated against labels; evaluate another split, or use `features` or `predict`"
        )
