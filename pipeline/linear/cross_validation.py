"""Cross-validation over groups that chooses C of a linear classifier; no group is divided between parts."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_modules.tasks.average_precision import mean_average_precision
from pipeline.linear.classifiers import ClassifierFitter, ClassWeight, LinearName
from pipeline.linear.feature_blocks import FeatureRows
from pipeline.linear.multi_label_fitter import MultiLabelFitter

C_GRID = (0.01, 0.1, 1.0, 10.0, 100.0)
_MAX_PARTS = 5


def choose_c(
    kind: LinearName,
    features: FeatureRows,
    labels: NDArray[np.integer],
    groups: Sequence[str],
    class_weight: ClassWeight | None = None,
) -> tuple[float, dict[str, float]]:
    """Chooses the C of `C_GRID` with the best cross-validated accuracy; among equally good ones the smallest.

    With several labels a video, by the mean average precision of all held-out videos together.

    Args:
        kind: `svm` or `logistic`.
        features: M rows, L2-normalized.
        labels: int64 (M,), class numbers; or (M, K), 1 where the video has the class.
        groups: groups of the M videos; none is divided between the parts.
        class_weight: `balanced` or None, as in `ClassifierFitter`.

    Returns:
        The chosen C, and for each C, as text, the share of held-out videos that were right, or the mean average
        precision, in [0, 1].

    Raises:
        ValueError: no class has two groups, so that no held-out video could be of a class that was learned.
    """
    if labels.ndim == 2:
        means = _held_out_precisions(kind, features, labels, groups, class_weight)
        return max(means, key=lambda c: (means[c], -c)), {str(c): mean for c, mean in means.items()}
    classes = labels.astype(np.int64)
    num_correct = dict.fromkeys(C_GRID, 0)
    num_tested = 0
    for train_rows, test_rows in split_by_group(classes, groups):
        if len(np.unique(classes[train_rows])) < 2:
            continue
        fitter = ClassifierFitter(
            kind, features.choose(train_rows), classes[train_rows], int(classes.max()) + 1, class_weight
        )
        test = features.choose(test_rows)
        num_tested += len(test_rows)
        for c in C_GRID:
            num_correct[c] += int((fitter.fit(c).scores(test).argmax(1) == classes[test_rows]).sum())
    means = {c: count / max(1, num_tested) for c, count in num_correct.items()}
    return max(means, key=lambda c: (means[c], -c)), {str(c): mean for c, mean in means.items()}


def _held_out_precisions(
    kind: LinearName,
    features: FeatureRows,
    labels: NDArray[np.integer],
    groups: Sequence[str],
    class_weight: ClassWeight | None,
) -> dict[float, float]:
    """Mean average precision of the held-out videos of all parts together, by C."""
    from sklearn.model_selection import GroupKFold

    num_groups = len(set(groups))
    if num_groups < 2:
        raise ValueError(f"C='auto': the {len(labels)} videos are of one group, so none could be held out; give a C")
    splitter = GroupKFold(n_splits=min(_MAX_PARTS, num_groups), shuffle=True, random_state=0)
    scores = {c: np.zeros(labels.shape, np.float32) for c in C_GRID}
    for train_rows, test_rows in splitter.split(labels, groups=np.asarray(groups)):
        fitter = MultiLabelFitter(kind, features.choose(np.sort(train_rows)), labels[np.sort(train_rows)], class_weight)
        test = np.sort(test_rows)
        for c in C_GRID:
            scores[c][test] = fitter.fit(c).scores(features.choose(test))
    targets = torch.from_numpy(labels)
    return {c: float(mean_average_precision(torch.from_numpy(found), targets)) for c, found in scores.items()}


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
