"""Rows of more numbers than there are rows are fitted in the space that they span, with the same weights."""

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from pipeline.linear import row_space
from pipeline.linear.classifiers import ClassifierFitter
from pipeline.linear.feature_blocks import FeatureRows
from pipeline.linear.row_space import RowSpace
from tests.pipeline.linear.test_classifiers import points


def test_lengths_and_products_are_kept():
    x, _ = points(6, 40, 2)
    x[5] = x[4]  # the rows span 5 dimensions only
    space = RowSpace(FeatureRows.from_array(x))
    rows = space.rows.sample(6)
    assert rows.shape == (6, 6)
    torch.testing.assert_close(rows @ rows.T, torch.from_numpy(x @ x.T), atol=1e-6, rtol=0)
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 6)))
    np.testing.assert_allclose(x @ space.expand(weights).T, rows.double().numpy() @ weights.numpy().T, atol=1e-6)


def test_enough_rows_are_left_as_they_are(monkeypatch):
    many, wide = (FeatureRows.from_array(points(*size, 2)[0]) for size in ((12, 12), (11, 12)))
    assert RowSpace(many).rows is many
    assert RowSpace(wide).rows.dimension == 11
    monkeypatch.setattr(row_space, "_MAX_ROWS", 10)
    assert RowSpace(wide).rows is wide
    weights = torch.ones(2, 12, dtype=torch.float64)
    np.testing.assert_array_equal(RowSpace(wide).expand(weights), weights.numpy())


@pytest.mark.parametrize("num_classes", [2, 4])
def test_the_weights_are_those_of_a_fit_without_it(num_classes, monkeypatch):
    x, labels = points(30, 90, num_classes)
    found = ClassifierFitter("svm", FeatureRows.from_array(x), labels, num_classes).fit(10.0)
    expected = LinearSVC(C=10.0, dual=False, tol=1e-9, max_iter=10**5).fit(x.astype(np.float64), labels)
    np.testing.assert_allclose(found.weight[-1], expected.coef_[-1], atol=2e-4)
    monkeypatch.setattr(row_space, "_MAX_ROWS", 0)
    without = ClassifierFitter("svm", FeatureRows.from_array(x), labels, num_classes).fit(10.0)
    np.testing.assert_allclose(found.weight, without.weight, atol=2e-4)
    np.testing.assert_allclose(found.bias, without.bias, atol=2e-4)
