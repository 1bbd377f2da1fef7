"""Cross-validation over groups that chooses C of a linear classifier; no group is divided between parts."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.linear.classifiers import ClassifierFitter, ClassWeight, LinearName
from pipeline.linear.feature_blocks import FeatureRows

C_GRID = (0.01, 0.1, 1.0, 10.0, 100.0)
_MAX_PARTS = 5


def choose_c(
    kind: LinearName,
    features: FeatureRows,
    labels: NDArray[np.int64],
    groups: Sequence[str],
    class_weight: ClassWeight | None = None,
) -> tuple[float, dict[str, float]]:
    """Chooses the C of `C_GRID` with the best cross-validated accuracy; among equally good ones the smallest.

    Args:
        kind: `svm` or `logistic`.
        features: M rows, L2-normalized.
        labels: int64 (M,), class numbers.
        groups: groups of the M videos; none is divided between the parts.
        class_weight: `balanced` or None, as in `ClassifierFitter`.

    Returns:
        The chosen C, and for each C, as text, the share of held-out videos that were right, in [0, 1].

    Raises:
        ValueError: no class has two groups, so that no held-out video could be of a class that was learned.
    """
    num_correct = dict.fromkeys(C_GRID, 0)
    num_tested = 0
    for train_rows, test_rows in split_by_group(labels, groups):
        if len(np.unique(labels[train_rows])) < 2:
            continue
        fitter = ClassifierFitter(
            kind, features.choose(train_rows), labels[train_rows], int(labels.max()) + 1, class_weight
        )
        test = features.choose(test_rows)
        num_tested += len(test_rows)
        for c in C_GRID:
            num_correct[c] += int((fitter.fit(c).scores(test).argmax(1) == labels[test_rows]).sum())
    means = {c: count / max(1, num_tested) for c, count in num_correct.items()}
    return max(means, key=lambda c: (means[c], -c)), {str(c): mean for c, mean in means.items()}


def split_by_group(
    labels: NDArray[np.int64], groups: Sequence[str]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Divides videos into up to five parts, stratified by class as far as possible; no group is in two parts.

    The same input gives the same parts.

    Args:
        labels: int64 (M,), class numbers.
        groups: groups of the M videos.

    Yields:
        For each part: positions of the training videos and positions of the held-out part, int64, ascending.

    Raises:
        ValueError: no class has two groups.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    group_names, group_numbers = np.unique(np.asarray(groups), return_inverse=True)
    pairs = np.unique(np.stack([labels, group_numbers]), axis=1)  # which class has which groups
    groups_of_class = np.bincount(pairs[0])
    if not (groups_of_class > 1).any():
        raise ValueError(
            f"C='auto': no class has two groups to learn from ({len(group_names)} groups, {int(labels.max()) + 1} "
            "classes), so none could be held out and known; give a C"
        )
    parts = int(min(_MAX_PARTS, groups_of_class[groups_of_class > 1].min()))
    splitter = StratifiedGroupKFold(n_splits=parts, shuffle=True, random_state=0)
    for train_rows, test_rows in splitter.split(np.zeros(len(labels)), labels, group_numbers):
        yield np.sort(train_rows), np.sort(test_rows)
