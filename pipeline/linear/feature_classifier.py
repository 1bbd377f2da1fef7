"""`FeatureClassifier`: a linear classifier with the normalization of the features that it was fitted to."""

from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from datamodules.annotations.records import Task
from pipeline.linear.classifiers import LinearClassifier
from pipeline.linear.feature_blocks import FeatureRows
from pipeline.linear.feature_normalization import FeatureNormalization


class FeatureClassifier(NamedTuple):
    """A linear classifier of the features of videos.

    Attributes:
        classifier: the linear classifier.
        normalization: normalization of features before it.
        class_names: the K class names.
    """

    classifier: LinearClassifier
    normalization: FeatureNormalization
    class_names: list[str]

    @classmethod
    def from_metadata(cls, classifier: LinearClassifier, metadata: dict[str, Any]) -> Self:
        """The classifier with the normalization in the metadata of its file: layers, pool, normalize, classes."""
        normalization = FeatureNormalization.of_features(metadata, metadata["normalize"])
        return cls(classifier, normalization, metadata["classes"])

    @classmethod
    def load(cls, path: Path) -> tuple[Self, dict[str, Any]]:
        """Reads what `linear` wrote: the classifier, and the metadata of the file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file has no weights that `linear` wrote.
        """
        classifier, metadata = LinearClassifier.load(path)
        return cls.from_metadata(classifier, metadata), metadata

    @property
    def task(self) -> Task:
        """Whether a video has one class or several labels."""
        return self.classifier.task

    def scores_of(self, features: Tensor) -> Tensor:
        """Scores of videos by their features, float (B, D), averaged over views: float32 (B, K), on the CPU.

        Probabilities, or the softmax of an SVM's margins; with several labels a video, sigmoids in place of the
        softmax. Both keep the order of the classes by margin, and are no calibrated probabilities.
        """
        normalized = self.normalization.apply(features.cpu().numpy())
        scores = torch.from_numpy(self.classifier.scores(FeatureRows.from_array(normalized)))
        return self.classifier.probabilities(scores) if self.classifier.kind == "svm" else scores
