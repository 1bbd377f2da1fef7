"""`python -m pipeline folds`: a linear classifier on exported features, for every fold of a dataset in turn."""

import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from datamodules.shards import DatasetIndex
from pipeline.linear import VideoFeatures, read_videos
from pipeline.linear_classifiers import ClassifierName, LinearClassifier
from pipeline.predictions import REPORT_NAME
from pipeline.results import summarize, write_report
from pipeline.trained import library_versions


def folds(
    features: Path,
    data: Path,
    out: Path,
    classifier: ClassifierName = "svm",
    C: float = 1.0,  # noqa: N803 - the name that everybody knows
) -> None:
    """Judge features by linear classifiers over all folds of a dataset: mean and spread.

    For each fold, a classifier is trained on the videos that the fold trains on and tested on those that it holds out,
    as `linear` does with two files. Written to `out`: report.json.

    Args:
        features: of all videos, a file that `features --split all` wrote.
        data: the packed dataset, with folds, that they come from.
        out: folder for the report.
        classifier: svm (one class against the rest) or logistic (regression, multinomial).
        C: inverse of the penalty's strength.

    Raises:
        FileNotFoundError: there is no such file of features.
        ShardFormatError: there is no dataset.
        ValueError: a dataset without folds, or another than the features are of; videos without features.
    """
    began = time.monotonic()
    if not 0 < C < float("inf"):
        raise ValueError(f"C={C}: must be above 0")
    known, index = read_videos(features), DatasetIndex.open(data)
    if not index.folds:
        raise ValueError(f"data={data}: has no folds; export its splits one by one and use `linear`")
    if known.provenance["dataset_identity"] != index.identity:
        raise ValueError(f"features={features}: are of another dataset than {data}; export them again")
    place = {key: number for number, key in enumerate(known.keys)}
    names: list[str] = known.provenance["classes"]
    reports = {}
    for fold in index.folds:
        train, test = (_places(index, split, fold, place, features) for split in ("train", "test"))
        fitted = LinearClassifier.fit(classifier, known.features[train], known.labels[train], len(names), C)
        reports[fold] = summarize(fitted.scores(known.features[test]), known.labels[test], names)
    accuracies = np.array([report["top1"] for report in reports.values()])
    report = {
        "top1_mean": float(accuracies.mean()),
        "top1_std": float(accuracies.std(ddof=1)) if len(accuracies) > 1 else 0.0,
        "chance": 1 / len(names),
        "folds": reports,
        "C": C,
        "classifier": classifier,
        "seconds": round(time.monotonic() - began, 1),
        "provenance": known.provenance | {"versions": library_versions()},
    }
    out.mkdir(parents=True, exist_ok=True)
    write_report(out / REPORT_NAME, report)
    _print(known, report, reports, classifier)
    print(f"wrote {out / REPORT_NAME}")


def _places(index: DatasetIndex, split: str, fold: str, place: dict[str, int], path: Path) -> NDArray[np.int64]:
    keys = index.column("key", index.readable_rows(split, fold))
    missing = [key for key in keys if key not in place]
    if missing:
        raise ValueError(
            f"features={path}: has not {len(missing)} videos of fold {fold}, first {missing[0]}; export --split all"
        )
    return np.array([place[key] for key in keys], dtype=np.int64)


def _print(known: VideoFeatures, report: dict[str, object], reports: dict[str, dict[str, float]], name: str) -> None:
    table = Table(title=f"{name} on {known.provenance['layer']}, {known.provenance['dataset']}")
    for heading in ("fold", "top-1", "mean class", "videos"):
        table.add_column(heading, justify="right")
    for fold, one in reports.items():
        table.add_row(fold, f"{one['top1']:.1%}", f"{one['mean_class_accuracy']:.1%}", str(one["num_videos"]))
    table.add_section()
    table.add_row("mean", f"{report['top1_mean']:.1%}", f"± {report['top1_std']:.1%}", "")
    Console().print(table)
