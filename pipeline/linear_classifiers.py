"""Linear classifiers on L2-normalized features: fitting, choosing C, and the weights as open data."""

import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from datamodules.aside import write_aside

ClassifierName = Literal["svm", "logistic"]
C_GRID = (0.01, 0.1, 1.0, 10.0, 100.0)
_NEVER = -1e3  # bias of a class without a training video: below any score of the others
_MAX_ITERATIONS = 10_000


class LinearClassifier(NamedTuple):
    """Weights of K classes: scores = normalized features @ weight.T + bias, for `logistic` then softmax.

    Attributes:
        kind: `svm` (margins, one class against the rest) or `logistic` (probabilities).
        weight: float32 (K, D).
        bias: float32 (K,).
        converged: whether the solver ended before its limit.
    """

    kind: ClassifierName
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    converged: bool

    @classmethod
    def fit(
        cls, kind: ClassifierName, features: NDArray[np.float32], labels: NDArray[np.int64], num_classes: int, c: float
    ) -> Self:
        """Fits a classifier; the same input gives the same weights.

        Args:
            kind: `svm` is sklearn's LinearSVC (squared hinge loss, one against the rest), `logistic` its
                LogisticRegression (multinomial, lbfgs); both with the L2 penalty and unweighted classes.
            features: (M, D), normalized.
            labels: (M,) in [0, K), of two classes at least.
            num_classes: K; a class without a row always comes last.
            c: inverse of the strength of the penalty, above 0.

        Raises:
            ValueError: fewer than two classes have rows.
        """
        found = np.unique(labels)
        if len(found) < 2:
            raise ValueError(f"the training features are of {len(found)} class: at least 2 are needed")
        model, converged = _fit_sklearn(kind, features, labels, c)
        coefficients, intercepts = np.asarray(model.coef_), np.asarray(model.intercept_)
        if len(found) == 2:  # sklearn keeps one row, for the second class
            zero_or_minus = -1.0 if kind == "svm" else 0.0
            coefficients = np.concatenate([zero_or_minus * coefficients, coefficients])
            intercepts = np.concatenate([zero_or_minus * intercepts, intercepts])
        weight = np.zeros((num_classes, features.shape[1]), np.float32)
        bias = np.full(num_classes, _NEVER, np.float32)
        weight[found], bias[found] = coefficients, intercepts
        return cls(kind, weight, bias, converged)

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Margins or probabilities of normalized features (M, D): float32 (M, K)."""
        scores = features.astype(np.float64) @ self.weight.T.astype(np.float64) + self.bias
        if self.kind == "logistic":
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            scores /= scores.sum(axis=1, keepdims=True)
        return scores.astype(np.float32)

    def save(self, path: Path, class_names: Sequence[str], about: Mapping[str, Any]) -> None:
        """Writes weight and bias as safetensors, with class names and what is in `about` as JSON in its metadata.

        `safetensors.safe_open(path, "np")` reads it: `.get_tensor("weight")`, `json.loads(.metadata()["about"])`.
        """
        from safetensors.numpy import save

        text = json.dumps({"classifier": self.kind, "classes": list(class_names), **about}, ensure_ascii=False)
        # One entry: safetensors writes several in an order that differs from run to run.
        content = save({"weight": self.weight, "bias": self.bias}, {"about": text})
        with write_aside(path) as temporary:
            temporary.write_bytes(content)


def normalize_l2(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows divided by their length, float32 (M, D); a row of zeros stays as it is."""
    lengths = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    normalized: NDArray[np.float32] = (features / np.maximum(lengths, 1e-12)).astype(np.float32)
    return normalized


def choose_c(
    kind: ClassifierName, features: NDArray[np.float32], labels: NDArray[np.int64], groups: Sequence[str]
) -> tuple[float, dict[str, float]]:
    """The C of `C_GRID` with the best accuracy in cross-validation that never divides a group; of equal ones the least.

    Args:
        kind: `svm` or `logistic`.
        features: (M, D), normalized.
        labels: (M,).
        groups: of the M videos.

    Returns:
        The C, and the mean accuracy by C.

    Raises:
        ValueError: a class has fewer than two groups, so that nothing could be held out.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    names = np.asarray(groups)
    groups_of_class = {int(label): len(np.unique(names[labels == label])) for label in np.unique(labels)}
    fewest = min(groups_of_class.values())
    if fewest < 2:
        short = min(groups_of_class, key=lambda label: groups_of_class[label])
        raise ValueError(f"C='auto': class {short} has only one group to learn from, so none can be held out; give a C")
    folds = StratifiedGroupKFold(n_splits=min(5, fewest), shuffle=True, random_state=0)
    accuracies: dict[float, list[float]] = {c: [] for c in C_GRID}
    for kept, held_out in folds.split(features, labels, names):
        if len(np.unique(labels[kept])) < 2:
            continue
        for c, found in accuracies.items():
            model, _ = _fit_sklearn(kind, features[kept], labels[kept], c)
            found.append(float((model.predict(features[held_out]) == labels[held_out]).mean()))
    means = {c: float(np.mean(found)) if found else 0.0 for c, found in accuracies.items()}
    return max(means, key=lambda c: (means[c], -c)), {str(c): mean for c, mean in means.items()}


def _fit_sklearn(
    kind: ClassifierName, features: NDArray[np.float32], labels: NDArray[np.int64], c: float
) -> tuple[Any, bool]:
    """A fitted sklearn classifier, and whether it converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.svm import LinearSVC

    model: Any
    if kind == "svm":
        model = LinearSVC(C=c, dual="auto", random_state=0, max_iter=_MAX_ITERATIONS)
    else:
        model = LogisticRegression(C=c, max_iter=_MAX_ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(features.astype(np.float64), labels)
    return model, not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
