"""`ProbeSettings`: fits a classifier to features of training videos, tests it on others, writes report and weights."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.dataset.dataset_index import DatasetIndex
from lightning_modules.tasks.label_task import refuse_other_task
from pipeline.cli.terminal import print_text
from pipeline.inference.provenance import library_versions
from pipeline.inference.training_overlap import overlap_with_keys, refuse_overlap
from pipeline.linear.classifiers import ClassWeight, LinearClassifier
from pipeline.linear.cross_validation import choose_c
from pipeline.linear.feature_blocks import FeatureRows
from pipeline.linear.multi_label_fitter import make_fitter
from pipeline.linear.nearest_neighbors import nearest_neighbor_scores
from pipeline.linear.video_features import VideoFeatures, task_of
from pipeline.metrics.accuracy import print_report
from pipeline.metrics.scored_videos import refuse_other_classes
from pipeline.report.write_results import FILES, ScoredVideos, write_results

ClassifierName = Literal["svm", "logistic", "knn"]
WEIGHTS_NAME = "weights.safetensors"
_VIEWS = ("num_clips", "clip_step", "num_crops")
SCALES = {"svm": "margin", "logistic": "probability", "knn": "share of neighbors"}


class FittedClassifier(NamedTuple):
    """A classifier that was fitted to features.

    Attributes:
        scores: function from M rows of features to scores, float32 (M, K).
        linear: the linear classifier with its weights; None for knn.
        c: the inverse of the penalty's strength; None for knn.
        cross_validation: cross-validated accuracy, or mean average precision, by C; None where C was given.
    """

    scores: Callable[[FeatureRows], NDArray[np.float32]]
    linear: LinearClassifier | None = None
    c: float | None = None
    cross_validation: dict[str, float] | None = None


class ProbeSettings(NamedTuple):
    """Settings of a linear probe, which fits and tests a classifier on features.

    Attributes:
        classifier: svm, logistic or knn.
        c: inverse of the penalty's strength, above 0, or `auto` for cross-validation.
        class_weight: `balanced` or None, as in `ClassifierFitter`.
        neighbors: number of neighbors of knn.
        allow_overlap: test even on videos or groups that were trained on.
        began: time of the start, in seconds of `time.monotonic`.
    """

    classifier: ClassifierName
    c: float | Literal["auto"]
    class_weight: ClassWeight | None
    neighbors: int
    allow_overlap: bool
    began: float

    def fit(self, train: VideoFeatures) -> FittedClassifier:
        """Fits the classifier to the features of videos.

        Raises:
            ValueError: the videos are of one class, or C cannot be chosen by cross-validation.
        """
        count = len(train.provenance["classes"])
        if self.classifier == "knn":

            def vote(features: FeatureRows) -> NDArray[np.float32]:
                return nearest_neighbor_scores(train.features, train.labels, features, count, self.neighbors)

            return FittedClassifier(vote)
        accuracies = None
        c = self.c
        if c == "auto":
            c, accuracies = choose_c(self.classifier, train.features, train.labels, train.groups, self.class_weight)
        fitted = make_fitter(self.classifier, train.features, train.labels, count, self.class_weight).fit(c)
        return FittedClassifier(fitted.scores, fitted, c, accuracies)

    def report(
        self,
        train: VideoFeatures,
        test: VideoFeatures,
        out: Path,
        videos: DatasetIndex | None = None,
        print_accuracies: bool = True,
    ) -> dict[str, Any]:
        """Fits, tests and writes all files; returns the content of report.json.

        Args:
            train: training videos.
            test: test videos.
            out: folder for the files.
            videos: dataset of the test videos, for pictures in the report; default: no pictures.
            print_accuracies: print the accuracies.

        Raises:
            ValueError: test videos were trained on, or no classifier can be fitted.
        """
        overlap = overlap_with_keys(train.keys, train.groups, test.keys, test.groups).counts()
        num_trained = int(test.seen.sum())
        if not self.allow_overlap:
            subject = f"test={str(test.path)!r}: the classifier of train={str(train.path)!r}"
            refuse_overlap(overlap, subject, "export other splits")
            _refuse_trained_videos(test)
        fitted = self.fit(train)
        scores = fitted.scores(test.features)
        names, source = train.provenance["classes"], train.provenance
        metadata: dict[str, Any] = {"classifier": self.classifier, "C": fitted.c, "class_weight": self.class_weight}
        metadata |= {"neighbors": min(self.neighbors, len(train.keys))} if self.classifier == "knn" else {}
        metadata |= {"pool": source.get("pool", "mean"), "train": without_classes(source)}
        names_kept = ("checkpoint", "checkpoint_sha256", "model", "layer", "layers", "normalize")
        metadata |= {name: source[name] for name in names_kept}
        provenance = metadata | {
            "task": task_of(test.provenance),
            "test": without_classes(test.provenance),
            "scores": SCALES[self.classifier],
            "classes": names,
            "overlap": overlap,
            "seen_by_network": num_trained,
            "split_file": test.provenance.get("split_file"),
            "decoder": test.provenance.get("decoder"),
            "versions": library_versions(),
        }
        extra: dict[str, Any] = {"C": fitted.c, "classifier": self.classifier, "num_train_videos": len(train.keys)}
        extra |= {"converged": fitted.linear.converged, "passes": fitted.linear.passes} if fitted.linear else {}
        extra |= {"cross_validation": fitted.cross_validation, "seconds": round(time.monotonic() - self.began, 1)}
        if num_trained:
            extra["notes"] = [
                f"The network was trained on {num_trained} of these {len(test.keys)} videos, or on their groups."
            ]
        scored = ScoredVideos(scores, test.labels, names, test.keys, test.groups, provenance)
        held_out = [test.provenance[name] for name in ("dataset", "split")]
        held_out += [f"of fold {test.provenance['fold']}"] if test.provenance.get("fold") is not None else []
        title = f"{self.classifier} on {source['layer']}, {' '.join(held_out)}"
        report = write_results(out, scored, title, extra, videos)
        paths = [out / name for name in FILES]
        if fitted.linear is not None:
            paths.append(out / WEIGHTS_NAME)
            fitted.linear.save(paths[-1], names, metadata)
        if print_accuracies:
            self._print_report(title, report, paths)
        return report

    def _print_report(self, title: str, report: dict[str, Any], paths: list[Path]) -> None:
        neighbors = report["provenance"].get("neighbors")
        setting = {"neighbors": str(neighbors)} if report["C"] is None else {"C": f"{report['C']:g}"}
        print_report(title, report, setting | {"trained on": str(report["num_train_videos"])}, paths)
        if not report.get("converged", True):
            print_text("the solver reached its limit before it converged: try a smaller C")
        overlap = report["provenance"]["overlap"]
        if overlap is not None:
            print_text(f"not held out: {overlap['videos']} of these videos were trained on")
        for note in report.get("notes", ()):
            print_text(f"not held out: {note}")


def _describe_setting(provenance: Mapping[str, Any], name: str) -> str:
    """A setting of an export; a checkpoint by its path and contents, as a run that goes on writes the same path."""
    if name != "checkpoint_sha256":
        return str(provenance.get(name))
    return f"{provenance.get('checkpoint')} with sha256 {str(provenance.get(name))[:8]}"


def refuse_other_features(train: VideoFeatures, test: VideoFeatures) -> None:
    """Raises ValueError unless both files hold the same features of the same classes."""
    for name, plural in (("checkpoint_sha256", "checkpoints"), ("layer", "layers"), ("pool", "poolings")):
        if train.provenance.get(name) != test.provenance.get(name):
            shown = [_describe_setting(videos.provenance, name) for videos in (train, test)]
            raise ValueError(
                f"{train.path} and {test.path} are of different {plural} ({shown[0]}, {shown[1]}): export both alike"
            )
    clips = [_clip_settings(videos.provenance) for videos in (train, test)]
    for name in sorted((set(clips[0]) & set(clips[1])) | {"max_frames"}):  # only whole videos have max_frames
        values = [videos.get(name) for videos in clips]
        if values[0] != values[1]:
            raise ValueError(
                f"{train.path} and {test.path} are of different clips ({name} {values[0]}, {values[1]}): "
                "export both alike"
            )
    remedy = "export both from datasets of the same task"
    refuse_other_task(str(train.path), task_of(train.provenance), str(test.path), task_of(test.provenance), remedy)
    refuse_other_classes(train.provenance["classes"], test.provenance["classes"], str(train.path), str(test.path))


def _clip_settings(provenance: dict[str, Any]) -> dict[str, Any]:
    """The sampling settings of a single clip; number and position of a video's views may differ."""
    sampling: dict[str, Any] = provenance.get("sampling") or {}
    return {name: value for name, value in sampling.items() if name not in _VIEWS}


def _refuse_trained_videos(test: VideoFeatures) -> None:
    """Raises ValueError where the network that computed the features was trained on test videos or on their groups."""
    if num_trained := int(test.seen.sum()):
        raise ValueError(
            f"the network {test.provenance['checkpoint']} was trained on {num_trained} of the {len(test.keys)} test "
            "videos, or on their groups: test on what it has not seen, such as the fold it held out, or give "
            "--allow-overlap"
        )


def without_classes(provenance: dict[str, Any]) -> dict[str, Any]:
    """The provenance without the class names, which may be many."""
    return {name: value for name, value in provenance.items() if name != "classes"}
