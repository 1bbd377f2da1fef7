"""Options of which videos of a dataset are read for what."""

from dataclasses import dataclass

from datamodules.options import Options


@dataclass(frozen=True, kw_only=True)
class SplitOptions(Options):
    """Splits of the dataset.

    Attributes:
        train_split: split to train on.
        val_split: split to validate on; null for none. A dataset with folds has none.
        test_split: split to test on.
        predict_split: split to export features of.
        fold: which fold holds the test videos, for datasets with folds.
    """

    train_split: str = "train"
    val_split: str | None = "val"
    test_split: str = "test"
    predict_split: str = "test"
    fold: str | int | None = None
