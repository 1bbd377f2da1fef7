"""The solver: scikit-learn's minima, whatever the sizes, the weights of classes, and where the features are."""

import tempfile

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from pipeline.linear import feature_blocks, lbfgs
from pipeline.linear.classifiers import ClassifierFitter, normalize_l2
from pipeline.linear.cross_validation import split_by_group
from pipeline.linear.feature_blocks import FeatureRows
from pipeline.linear.nearest_neighbors import nearest_neighbor_scores


def points(count, dimension, num_classes, seed=0):
    """Normalized points around a center for each class; some classes have more than others."""
    generator = np.random.default_rng(seed)
    labels = np.minimum(generator.integers(0, num_classes, count), generator.integers(0, num_classes, count))
    centers = np.random.default_rng(99).normal(size=(num_classes, dimension))
    return normalize_l2(np.maximum(0, centers[labels] + generator.normal(size=(count, dimension)))), labels


def of_sklearn(kind, x, labels, c, class_weight=None):
    if kind == "svm":
        return LinearSVC(C=c, dual=False, tol=1e-8, max_iter=10**5, class_weight=class_weight).fit(x, labels)
    return LogisticRegression(C=c, tol=1e-8, max_iter=10**5, class_weight=class_weight).fit(x, labels)


def scores_of_sklearn(model, x):
    return model.decision_function(x) if isinstance(model, LinearSVC) else model.predict_proba(x)


@pytest.mark.parametrize("class_weight", [None, "balanced"])
@pytest.mark.parametrize("kind", ["svm", "logistic"])
@pytest.mark.parametrize(("count", "dimension"), [(200, 20), (60, 150)])
def test_the_minima_are_those_of_sklearn(kind, class_weight, count, dimension):
    x, labels = points(count, dimension, 5)
    rows = FeatureRows.from_array(x)
    fitting = ClassifierFitter(kind, rows, labels, 5, class_weight)
    for c in (0.01, 1.0, 100.0):  # each starts from the one before
        fitted = fitting.fit(c)
        assert fitted.converged
        expected = scores_of_sklearn(of_sklearn(kind, x.astype(np.float64), labels, c, class_weight), x)
        np.testing.assert_allclose(fitted.scores(rows), expected, atol=2e-3 if c == 100 else 2e-4)


@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_weights_of_two_classes(kind):
    x, labels = points(80, 10, 2)
    rows = FeatureRows.from_array(x)
    expected = scores_of_sklearn(of_sklearn(kind, x.astype(np.float64), labels, 1.0, "balanced"), x)
    scores = ClassifierFitter(kind, rows, labels, 2, "balanced").fit(1.0).scores(rows)
    np.testing.assert_allclose(scores[:, 1] if kind == "svm" else scores, expected, atol=2e-4)


def test_more_dimensions_than_second_moments_are_kept_of(monkeypatch):
    monkeypatch.setattr(lbfgs, "_MAX_RANK", 16)
    x, labels = points(300, 40, 3)
    rows = FeatureRows.from_array(x)
    fitted = ClassifierFitter("svm", rows, labels, 3).fit(1.0)
    expected = of_sklearn("svm", x.astype(np.float64), labels, 1.0).decision_function(x)
    np.testing.assert_allclose(fitted.scores(rows), expected, atol=2e-4)


@pytest.mark.parametrize("kind", ["svm", "logistic"])
def test_features_in_a_file_give_the_same_weights_to_the_last_bit(kind, monkeypatch):
    monkeypatch.setattr(feature_blocks, "_BLOCK_BYTES", 4 * 20 * 32)  # blocks of 32 rows
    x, labels = points(200, 20, 4)
    chosen = np.flatnonzero(np.arange(200) % 3 > 0)
    with tempfile.TemporaryFile() as file:
        file.write(x.tobytes())
        weights = [
            ClassifierFitter(kind, rows.choose(chosen), labels[chosen], 4).fit(1.0)
            for rows in (FeatureRows.from_array(x), FeatureRows(file, 20))
        ]
        copied = ClassifierFitter(kind, FeatureRows.from_array(x[chosen]), labels[chosen], 4).fit(1.0)
        np.testing.assert_array_equal(
            FeatureRows(file, 20).choose(chosen).sample(7), x[chosen][[0, 22, 44, 66, 88, 110, 132]]
        )
    np.testing.assert_array_equal(weights[0].weight, weights[1].weight)
    np.testing.assert_array_equal(weights[0].bias, weights[1].bias)
    np.testing.assert_allclose(weights[0].weight, copied.weight, atol=1e-5)


def test_the_parts_divide_no_group_and_hold_what_classes_there_are():
    labels = np.repeat([0, 1, 0, 1, 0, 1, 2], 4)
    groups = [str(number // 4) for number in range(28)]  # the third class has one group
    parts = list(split_by_group(labels, groups))
    assert len(parts) == 3
    assert sorted(np.concatenate([held_out for _, held_out in parts]).tolist()) == list(range(28))
    for kept, held_out in parts:
        assert not {groups[place] for place in kept} & {groups[place] for place in held_out}
        assert {0, 1} <= set(labels[held_out].tolist())
    again = list(split_by_group(labels, groups))
    assert all((one[1] == other[1]).all() for one, other in zip(parts, again, strict=True))


def test_nearest_neighbors_vote_by_their_cosines(monkeypatch):
    known = np.array([[1, 0], [0.8, 0.6], [0, 1], [-1, 0]], np.float32)
    monkeypatch.setattr(feature_blocks, "_BLOCK_BYTES", 16)  # two rows a block
    scores = nearest_neighbor_scores(
        FeatureRows.from_array(known), np.array([0, 1, 1, 0]), FeatureRows.from_array(known[:2]), 3, 3
    )
    np.testing.assert_allclose(scores, [[1 / 1.8, 0.8 / 1.8, 0], [0.8 / 2.4, 1.6 / 2.4, 0]], atol=1e-6)
