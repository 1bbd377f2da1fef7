"""Options of `linear`: whose features, which splits, and the classifier."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datamodules.options import Options
from pipeline.inference.protocols import TransferProtocolName
from pipeline.linear.classifiers import ClassWeight
from pipeline.linear.feature_normalization import Normalization
from pipeline.linear.linear_probe import ClassifierName


@dataclass(frozen=True, kw_only=True)
class ClassifierOptions(Options):
    """The classifier.

    Attributes:
        protocol: take the classifier and C of a paper: lrcn, c3d or i3d; options given beside it win.
        classifier: svm (one class against the rest, the default), logistic (multinomial logistic regression) or knn
            (nearest neighbors by cosine, a quick look: nothing is fitted, no weights are written).
        C: inverse of the penalty's strength, default 1; auto: by cross-validation on the training videos that divides
            no group.
        normalize: l2, each video's features to length 1; or signed_sqrt, the square root of each feature with its sign
            before it. Several layers, and the two of --pool mean_max, are each normalized by itself.
        class_weight: balanced: classes count alike, whatever the number of their videos; default: videos count alike.
        neighbors: number of neighbors of knn.
        max_memory_gb: features that take more GiB are put into a temporary file in `out` and read block by block: the
            result is the same.
    """

    protocol: TransferProtocolName | None = None
    classifier: ClassifierName | None = None
    C: float | Literal["auto"] | None = None  # the usual name of this parameter
    normalize: Normalization = "l2"
    class_weight: ClassWeight | None = None
    neighbors: int = 20
    max_memory_gb: float = 4.0

    def check(self) -> None:
        """Refuses a penalty or a number of neighbors out of range."""
        if self.C is not None and self.C != "auto" and not 0 < self.C < math.inf:
            raise ValueError(f"C={self.C}: must be above 0, or 'auto'")
        self.require_at_least(1, "neighbors")


@dataclass(frozen=True)
class LinearOptions(ClassifierOptions):
    """Options of `linear`.

    Attributes:
        out: folder for the results; with `--fold all`, it has a folder for each fold.
        train: features to train on, a Parquet file that `features` wrote.
        test: features to test on, of the same checkpoint and layer.
        features: features of all videos, as `features --split all` writes them, instead of `train` and `test`.
        data: the packed dataset that `features` was exported from, whose splits are taken.
        fold: the fold to hold out; or all, each in turn, with mean and standard deviation over folds.
        split_file: name, path or URL of the split file of `data` whose splits or folds are taken; default: those in the
            index.
        layer: the layers whose features are taken, where the files have several; more than one are concatenated.
        allow_overlap: test even on videos or groups that the classifier or the network was trained on.
    """

    out: Path
    train: Path | None = None
    test: Path | None = None
    features: Path | None = None
    data: Path | None = None
    fold: str | None = None
    split_file: str | None = None
    layer: list[str] | None = None
    allow_overlap: bool = False

    def check(self) -> None:
        """Refuses anything but two files of features, or one with its dataset."""
        has_two = self.train is not None and self.test is not None
        if self.features is None and (not has_two or (self.data, self.fold, self.split_file) != (None, None, None)):
            raise ValueError("give --train and --test, two files of features; or --features, one of all, with --data")
        if self.features is not None and (self.train is not None or self.test is not None or self.data is None):
            raise ValueError(
                "--features holds all videos: give --data, the dataset that says which to learn from, alone"
            )
