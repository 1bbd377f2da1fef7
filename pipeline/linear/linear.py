"""`python -m pipeline linear`: a linear classifier on exported features, the linear probe of C3D.

Tran et al. 2015, section 4: a video's feature is the mean over its clips, L2-normalized, and goes to a linear SVM.
"""

import time
from pathlib import Path
from typing import Literal

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.inference.output_paths import nearest_folder, refuse_unwritable_folder
from pipeline.inference.protocols import TransferProtocolName, apply_protocol
from pipeline.linear.all_folds import probe_folds
from pipeline.linear.classifiers import ClassWeight
from pipeline.linear.linear_probe import ClassifierName, ProbeSettings, refuse_other_features
from pipeline.linear.video_features import choose_split, read_videos, refuse_unlabelled


def linear(
    out: Path,
    train: Path | None = None,
    test: Path | None = None,
    features: Path | None = None,
    data: Path | None = None,
    fold: str | None = None,
    split_file: str | None = None,
    layer: str | None = None,
    protocol: TransferProtocolName | None = None,
    classifier: ClassifierName | None = None,
    C: float | Literal["auto"] | None = None,  # noqa: N803 - the usual name of this parameter
    class_weight: ClassWeight | None = None,
    neighbors: int = 20,
    max_memory_gb: float = 4.0,
    allow_overlap: bool = False,
) -> None:
    """Train a linear classifier on the features of some videos and test it on the features of others.

    The features of a video's clips are averaged, then L2-normalized. The classifier is trained on `train` and tested on
    `test`; or, with one file of the features of all videos, on the splits of `data`, of one fold or, with `--fold all`,
    of each fold in turn. Written to `out`: report.html, report.json, per_class.csv and predictions.parquet as by
    `evaluate`, and weights.safetensors, which `classify --linear` takes. With several labels a video, a classifier is
    trained for each class against the rest, and the report is of mean average precision.

    Args:
        out: folder for the results; with `--fold all`, it has a folder for each fold.
        train: features to train on, a Parquet file that `features` wrote.
        test: features to test on, of the same checkpoint and layer.
        features: features of all videos, as `features --split all` writes them, instead of `train` and `test`.
        data: the packed dataset that `features` was exported from, whose splits are taken.
        fold: the fold to hold out; or all, each in turn, with mean and standard deviation over folds.
        split_file: name, path or URL of the split file of `data` whose splits or folds are taken; default: those in the
            index.
        layer: the layer whose features are taken, where the files have several.
        protocol: take the classifier and C of a paper: lrcn, c3d or i3d; options given beside it win.
        classifier: svm (one class against the rest, the default), logistic (multinomial logistic regression) or knn
            (nearest neighbors by cosine, a quick look: nothing is fitted, no weights are written).
        C: inverse of the penalty's strength, default 1; auto: by cross-validation on the training videos that divides
            no group.
        class_weight: balanced: classes count alike, whatever the number of their videos; default: videos count alike.
        neighbors: number of neighbors of knn.
        max_memory_gb: features that take more GiB are put into a temporary file in `out` and read block by block: the
            result is the same.
        allow_overlap: test even on videos or groups that the classifier or the network was trained on.

    Raises:
        FileNotFoundError: there is no such file of features.
        ShardFormatError: there is no dataset at `data`.
        ValueError: the files do not match, share videos or groups, or no classifier can be trained on them.
    """
    began = time.monotonic()
    protocol_options = apply_protocol(protocol, "linear", {"classifier": classifier, "C": C})
    c = 1.0 if protocol_options["C"] is None else protocol_options["C"]
    if c != "auto" and not 0 < c < float("inf"):
        raise ValueError(f"C={C}: must be above 0, or 'auto'")
    if neighbors < 1:
        raise ValueError(f"neighbors={neighbors}: must be at least 1")
    settings = ProbeSettings(protocol_options["classifier"] or "svm", c, class_weight, neighbors, allow_overlap, began)
    refuse_unwritable_folder(out)
    temporary_folder = nearest_folder(out)
    if features is None:
        if train is None or test is None or data is not None or (fold or split_file) is not None:
            raise ValueError("give --train and --test, two files of features; or --features, one of all, with --data")
        train_videos, test_videos = (
            read_videos(path, layer, max_memory_gb, temporary_folder) for path in (train, test)
        )
        refuse_other_features(train_videos, test_videos)
        refuse_unlabelled(train_videos)
        refuse_unlabelled(test_videos)
        settings.report(train_videos, test_videos, out)
        return
    if train is not None or test is not None or data is None:
        raise ValueError("--features holds all videos: give --data, the dataset that says which to learn from, alone")
    all_videos = read_videos(features, layer, max_memory_gb, temporary_folder)
    index = DatasetIndex.open(data, split_file=split_file)
    if all_videos.provenance["dataset_identity"] != index.identity:
        raise ValueError(f"features={features}: are of another dataset than {data}; export them again")
    if fold == "all":
        if not index.folds:
            raise ValueError(f"data={data}: has no folds; leave --fold out")
        probe_folds(settings, all_videos, index, out)
        return
    train_videos, test_videos = (choose_split(all_videos, index, split, fold) for split in ("train", "test"))
    settings.report(train_videos, test_videos, out, index)
