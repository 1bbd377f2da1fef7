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
        split_file: splits or folds in place of the packed ones: the name of a file that `python -m pipeline split` made
            in the dataset's folder splits, or the path or URL of a CSV file (key, and split or fold); null or packed:
            the packed ones.
    """

    train_split: str = "train"
    val_split: str | None = "val"
    test_split: str = "test"
    predict_split: str = "test"
    fold: str | int | None = None
    split_file: str | None = None
