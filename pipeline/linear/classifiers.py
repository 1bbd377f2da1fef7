"""Linear classifiers on L2-normalized features: fitting, and saving and loading their weights as safetensors."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.annotations.records import Task
from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.plain_text import to_json
from pipeline.linear.feature_blocks import FeatureRows
from pipeline.linear.lbfgs import SecondMoments, minimize
from pipeline.linear.losses import BinaryLogistic, MultinomialLogistic, Objective, OneVersusRest
from pipeline.linear.row_space import RowSpace

LinearName = Literal["svm", "logistic"]
ClassWeight = Literal["balanced"]
ABSENT_CLASS_BIAS = -1e3  # bias of a class without a training video: below any score of the others


class LinearClassifier(NamedTuple):
    """Linear classifier of K classes: scores = normalized features @ weight.T + bias, for `logistic` then softmax.

    With several labels a video it is the sigmoid in place of the softmax.

    Attributes:
        kind: `svm` (margins, one class against the rest) or `logistic` (probabilities).
        weight: float32 (K, D), the weights of each class.
        bias: float32 (K,), the bias of each class.
        converged: whether the solver converged before its limit of passes.
        passes: number of passes over the features that the solver made.
        task: whether a video has one class or several labels.
    """

    kind: LinearName
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    converged: bool = True
    passes: int = 0
    task: Task = "single_label"

    def scores(self, features: FeatureRows) -> NDArray[np.float32]:
        """Computes margins (`svm`) or probabilities (`logistic`) of M normalized rows: float32 (M, K)."""
        weight, bias = torch.from_numpy(self.weight).double(), torch.from_numpy(self.bias).double()
        pieces = []
        for _, block in features.blocks():
            scores = torch.addmm(bias, block.double(), weight.T)
            pieces.append((self.probabilities(scores) if self.kind == "logistic" else scores).float())
        return torch.cat([torch.empty(0, len(bias)), *pieces]).numpy()

    def probabilities(self, scores: torch.Tensor) -> torch.Tensor:
        """Softmax of scores (M, K), or with several labels a video their sigmoid."""
        return scores.sigmoid() if self.task == "multi_label" else scores.softmax(1)

    def save(self, path: Path, class_names: Sequence[str], metadata: Mapping[str, Any]) -> None:
        """Writes weight and bias as safetensors, with the class names and `metadata` as JSON in the metadata.

        `safetensors.safe_open(path, "np")` reads the file: `.get_tensor("weight")`, `json.loads(.metadata()["about"])`.
        """
        from safetensors.numpy import save

        text = to_json({"classifier": self.kind, "task": self.task, "classes": list(class_names), **metadata})
        # One metadata entry: safetensors writes several in an order that differs from run to run.
        content = save({"weight": self.weight, "bias": self.bias}, {"about": text})
        with write_atomically(path) as temporary:
            temporary.write_bytes(content)

    @classmethod
    def load(cls, path: Path) -> tuple[Self, dict[str, Any]]:
        """Reads what `save` wrote: the classifier, and its `metadata` with `classes` and `classifier` added.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file has no weights that `linear` wrote.
        """
        from safetensors import SafetensorError, safe_open

        if not path.is_file():
            raise FileNotFoundError(f"linear={str(path)!r}: no such file; `python -m pipeline linear` writes them")
        try:
            with safe_open(path, "np") as file:
                metadata = json.loads((file.metadata() or {})["about"])
                weight, bias = file.get_tensor("weight"), file.get_tensor("bias")
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"linear={str(path)!r}: not weights that `linear` wrote ({error})") from None
        return cls(metadata["classifier"], weight, bias, task=metadata.get("task", "single_label")), metadata


class ClassifierFitter:
    """Fits classifiers of one kind to the same features, for one C after another, each warm-started from the last.

    The starting point changes the number of passes and, to within 1e-10 of the minimum, nothing else.

    Args:
        kind: `svm` minimizes the objective of sklearn's LinearSVC (squared hinge loss, one against the rest),
            `logistic` that of sklearn's LogisticRegression (multinomial), both with the L2 penalty.
        features: M rows, L2-normalized.
        labels: int64 (M,), class numbers in [0, K), of two classes at least.
        num_classes: number of classes, K; a class without a training row gets the lowest score of all.
        class_weight: `balanced` weights classes as sklearn does, by M / (classes with rows x rows of the class);
            default: all rows count alike.

    Raises:
        ValueError: fewer than two classes have rows.
    """

    def __init__(
        self,
        kind: LinearName,
        features: FeatureRows,
        labels: NDArray[np.int64],
        num_classes: int,
        class_weight: ClassWeight | None = None,
    ) -> None:
        self._present_classes, class_positions = np.unique(labels, return_inverse=True)
        if len(self._present_classes) < 2:
            raise ValueError(f"the training features are of {len(self._present_classes)} class: at least 2 are needed")
        self._kind, self._dimension, self._num_classes = kind, features.dimension, num_classes
        self._space = RowSpace(features)
        self._features = self._space.rows
        self._labels = torch.from_numpy(class_positions.astype(np.int64))
        counts = torch.bincount(self._labels).double()
        self._weights = len(labels) / (len(counts) * counts) if class_weight else torch.ones_like(counts)
        self._moments = SecondMoments(self._features)
        self._last_point: torch.Tensor | None = None

    def fit(self, c: float) -> LinearClassifier:
        """Fits the classifier for `c`, the inverse of the penalty's strength, above 0."""
        objective = self._objective(c)
        size = objective.num_classes * (self._features.dimension + 1)
        start = (
            torch.zeros(objective.num_functions, size, dtype=torch.float64)
            if self._last_point is None
            else self._last_point
        )
        minimum = minimize(objective, start, self._moments)
        self._last_point = minimum.point
        points = minimum.point.reshape(-1, self._features.dimension + 1)
        rows = np.concatenate([self._space.expand(points[:, :-1]), points[:, -1:].numpy()], axis=1)
        if len(self._present_classes) == 2 and len(rows) == 1:  # one function separates both classes
            rows = np.concatenate([(-1.0 if self._kind == "svm" else 0.0) * rows, rows])
        weight = np.zeros((self._num_classes, self._dimension), np.float32)
        bias = np.full(self._num_classes, ABSENT_CLASS_BIAS, np.float32)
        weight[self._present_classes], bias[self._present_classes] = rows[:, :-1], rows[:, -1]
        return LinearClassifier(self._kind, weight, bias, minimum.converged, minimum.passes)

    def _objective(self, c: float) -> Objective:
        is_binary, weights = len(self._present_classes) == 2, self._weights
        if self._kind == "logistic":
            return (BinaryLogistic if is_binary else MultinomialLogistic)(self._features, self._labels, c, weights)
        if is_binary:  # the second class against the first, which has a weight of its own
            is_second_class = (self._labels == 0).long()
            return OneVersusRest(self._features, is_second_class, c, weights[1:], weights[:1])
        return OneVersusRest(self._features, self._labels, c, weights, torch.ones_like(weights))


def normalize_l2(features: NDArray[np.floating]) -> NDArray[np.float32]:
    """Divides each row by its L2 norm: float32 (M, D); a row of zeros stays zero."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    normalized: NDArray[np.float32] = (features / np.maximum(lengths, 1e-12)).astype(np.float32)
    return normalized
