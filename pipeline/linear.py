"""`python -m pipeline linear`: a linear classifier on exported features, C3D's way of judging them.

Tran et al. 2015, section 4: a video's feature is the mean over its clips, L2-normalized, and goes to a linear SVM.
"""

import time
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from datamodules.aside import write_aside
from pipeline.features import read_features, read_provenance
from pipeline.linear_classifiers import ClassifierName, LinearClassifier, choose_c, normalize_l2
from pipeline.predictions import PREDICTIONS_NAME, REPORT_NAME, prediction_schema, prediction_table
from pipeline.results import print_report, summarize, write_report
from pipeline.trained import library_versions, refuse_other_classes

WEIGHTS_NAME = "weights.safetensors"


class VideoFeatures(NamedTuple):
    """One row a video.

    Attributes:
        path: of the file they come from.
        features: float32 (M, D), normalized.
        labels: int64 (M,).
        keys: of the M videos.
        groups: of the M videos.
        provenance: of the file.
    """

    path: Path
    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    keys: list[str]
    groups: list[str]
    provenance: dict[str, Any]


def linear(
    train: Path,
    test: Path,
    out: Path,
    classifier: ClassifierName = "svm",
    C: float | Literal["auto"] = 1.0,  # noqa: N803 - the name that everybody knows
    allow_overlap: bool = False,
) -> None:
    """Train a linear classifier on the features of some videos and test it on those of others.

    The features of a video's clips are averaged, then L2-normalized. Written to `out`: report.json and
    predictions.parquet in the form of `evaluate`, and weights.safetensors.

    Args:
        train: features to learn from, a file that `features` wrote.
        test: features to test on, of the same checkpoint and layer.
        out: folder for the results.
        classifier: svm (one class against the rest) or logistic (regression, multinomial).
        C: inverse of the penalty's strength; auto: by cross-validation on the training videos that divides no group.
        allow_overlap: test on videos or groups that are trained on, all the same.

    Raises:
        FileNotFoundError: there is no such file of features.
        ValueError: the two files do not go together, share videos or groups, or cannot be learned from.
    """
    began = time.monotonic()
    if C != "auto" and not 0 < C < float("inf"):
        raise ValueError(f"C={C}: must be above 0, or 'auto'")
    known, asked = read_videos(train), read_videos(test)
    refuse_other_features(known, asked)
    overlap = find_overlap(known, asked)
    if overlap is not None and not allow_overlap:
        raise ValueError(
            f"train={str(train)!r} and test={str(test)!r} share {overlap['videos']} of the {overlap['of']} test videos "
            f"and {overlap['groups']} groups: export other splits, or say --allow-overlap"
        )
    names: list[str] = known.provenance["classes"]
    accuracies: dict[str, float] | None = None
    if C == "auto":
        C, accuracies = choose_c(classifier, known.features, known.labels, known.groups)  # noqa: N806
    fitted = LinearClassifier.fit(classifier, known.features, known.labels, len(names), C)
    scores = fitted.scores(asked.features)
    about = {
        "classifier": classifier,
        "C": C,
        "normalize": "l2",
        **{name: known.provenance[name] for name in ("checkpoint", "checkpoint_sha256", "model", "layer")},
        "train": _without_classes(known.provenance),
    }
    provenance = about | {
        "test": _without_classes(asked.provenance),
        "scores": "margin" if classifier == "svm" else "probability",
        "classes": names,
        "overlap": overlap,
        "versions": library_versions(),
    }
    report = summarize(scores, asked.labels, names)
    report |= {"C": C, "classifier": classifier, "num_train_videos": len(known.keys), "converged": fitted.converged}
    report |= {"cross_validation": accuracies, "seconds": round(time.monotonic() - began, 1), "provenance": provenance}
    schema = prediction_schema(len(names), provenance)
    table = prediction_table(schema, asked.keys, asked.labels, scores, names)

    out.mkdir(parents=True, exist_ok=True)
    paths = [out / name for name in (PREDICTIONS_NAME, WEIGHTS_NAME, REPORT_NAME)]
    with write_aside(paths[0]) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    fitted.save(paths[1], names, about)
    write_report(paths[2], report)
    title = f"{classifier} on {known.provenance['layer']}, {asked.provenance['dataset']} {asked.provenance['split']}"
    print_report(title, report, {"C": f"{C:g}", "trained on": str(len(known.keys))}, paths)
    if not fitted.converged:
        print("the solver reached its limit before it converged: try a smaller C")
    if overlap is not None:
        print(f"not held out: {overlap['videos']} of these videos were trained on")


def read_videos(path: Path) -> VideoFeatures:
    """Reads features, averages the rows of each video and normalizes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a file of features, or features that are not finite.
    """
    features, table = read_features(path)
    provenance = read_provenance(path)
    keys, first, owner = np.unique(
        np.asarray(table.column("key").to_pylist(), dtype=object).astype(str), return_index=True, return_inverse=True
    )
    if not len(keys):
        raise ValueError(f"{path}: holds no videos")
    broken = ~np.isfinite(features).all(axis=1)
    if broken.any():
        raise ValueError(f"{path}: the features of {int(broken.sum())} rows are not finite: did the training diverge?")
    sums = np.zeros((len(keys), features.shape[1]))
    np.add.at(sums, owner, features)
    means = (sums / np.bincount(owner)[:, None]).astype(np.float32)
    order = np.argsort(first)  # of the file
    rows = first[order]
    labels = table.column("label").to_numpy().astype(np.int64)[rows]
    groups = np.asarray(table.column("group").to_pylist(), dtype=object)[rows].tolist()
    return VideoFeatures(path, normalize_l2(means[order]), labels, keys[order].tolist(), groups, provenance)


def refuse_other_features(train: VideoFeatures, test: VideoFeatures) -> None:
    """Raises ValueError unless both files hold the same features of the same classes."""
    for name, word in (("checkpoint_sha256", "checkpoints"), ("layer", "layers")):
        if train.provenance[name] != test.provenance[name]:
            shown = [of.provenance["checkpoint" if name == "checkpoint_sha256" else name] for of in (train, test)]
            raise ValueError(
                f"{train.path} and {test.path} are of different {word} ({shown[0]}, {shown[1]}): export both alike"
            )
    refuse_other_classes(train.provenance["classes"], test.provenance["classes"], str(train.path), str(test.path))


def find_overlap(train: VideoFeatures, test: VideoFeatures) -> dict[str, int] | None:
    """How many test videos, and groups, are trained on too; None where none."""
    videos = len(set(train.keys) & set(test.keys))
    groups = len((set(train.groups) & set(test.groups)) - {""})
    return {"videos": videos, "of": len(test.keys), "groups": groups} if videos or groups else None


def _without_classes(provenance: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in provenance.items() if name != "classes"}
