"""`python -m pipeline linear`: a linear classifier on exported features, the linear probe of C3D.

Tran et al. 2015, section 4: a video's feature is the mean over its clips, L2-normalized, and goes to a linear SVM.
"""

import time
from pathlib import Path

from datamodules.dataset.dataset_index import DatasetIndex
from pipeline.inference.output_paths import nearest_folder, refuse_unwritable_folder
from pipeline.inference.protocols import apply_protocol
from pipeline.linear.all_folds import probe_folds
from pipeline.linear.linear_options import LinearOptions
from pipeline.linear.linear_probe import ProbeSettings, refuse_other_features
from pipeline.linear.video_features import VideoFeatures, choose_split, read_videos, refuse_unlabelled


def linear(options: LinearOptions) -> None:
    """Train a linear classifier on the features of some videos and test it on the features of others.

    The features of a video's clips are averaged, then normalized. The classifier is trained on `train` and tested on
    `test`; or, with one file of the features of all videos, on the splits of `data`, of one fold or, with `--fold all`,
    of each fold in turn. Written to `out`: report.html, report.json, per_class.csv and predictions.parquet as by
    `evaluate`, and weights.safetensors, which `classify --linear` takes. With several labels a video, a classifier is
    trained for each class against the rest, and the report is of mean average precision.

    Args:
        options: features, splits and classifier.

    Raises:
        FileNotFoundError: there is no such file of features.
        ShardFormatError: there is no dataset at `data`.
        ValueError: the files do not match, share videos or groups, or no classifier can be trained on them.
    """
    settings = _probe_settings(options)
    refuse_unwritable_folder(options.out)
    if options.features is None:
        _probe_two_files(settings, options)
    else:
        _probe_splits(settings, options)


def _probe_settings(options: LinearOptions) -> ProbeSettings:
    began = time.monotonic()
    chosen = apply_protocol(options.protocol, "linear", {"classifier": options.classifier, "C": options.C})
    c = 1.0 if chosen["C"] is None else chosen["C"]
    return ProbeSettings(
        chosen["classifier"] or "svm", c, options.class_weight, options.neighbors, options.allow_overlap, began
    )


def _probe_two_files(settings: ProbeSettings, options: LinearOptions) -> None:
    """Trains on one file of features and tests on another."""
    train, test = (_read(path, options) for path in (options.train, options.test))
    refuse_other_features(train, test)
    refuse_unlabelled(train)
    refuse_unlabelled(test)
    settings.report(train, test, options.out)


def _probe_splits(settings: ProbeSettings, options: LinearOptions) -> None:
    """Trains and tests on the splits, or on every fold, of the dataset whose features are in one file."""
    all_videos = _read(options.features, options)
    index = DatasetIndex.open(str(options.data), split_file=options.split_file)
    if all_videos.provenance["dataset_identity"] != index.identity:
        raise ValueError(f"features={options.features}: are of another dataset than {options.data}; export them again")
    if options.fold == "all":
        if not index.folds:
            raise ValueError(f"data={options.data}: has no folds; leave --fold out")
        probe_folds(settings, all_videos, index, options.out)
        return
    train, test = (choose_split(all_videos, index, split, options.fold) for split in ("train", "test"))
    settings.report(train, test, options.out, index)


def _read(path: Path | None, options: LinearOptions) -> VideoFeatures:
    if path is None:
        raise ValueError("a file of features is missing: give --train and --test, or --features with --data")
    folder = nearest_folder(options.out)
    return read_videos(path, options.layer, options.max_memory_gb, folder, options.normalize)
