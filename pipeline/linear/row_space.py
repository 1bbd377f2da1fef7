"""`RowSpace`: rows of more numbers than there are rows, in coordinates of the space that they span."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.linear.feature_blocks import FeatureRows

_MAX_ROWS = 2048  # more rows are left as they are: the basis would take a long time, and gigabytes


class RowSpace:
    """Fewer coordinates for M rows of D numbers, M < D and M <= 2048: the same fit, by M / D of the arithmetic.

    Losses depend on products of weights and rows, and the L2 penalty on the length of the weights. What of the weights
    is orthogonal to all rows therefore only adds to the penalty, so that the minimum is in the span of the rows. An
    orthonormal basis of it keeps lengths and products, so the function to be minimized is the same in its coordinates.

    Args:
        features: M rows of D numbers.

    Attributes:
        rows: M rows of M coordinates; the rows as they are if they do not have more numbers, or are too many.
    """

    def __init__(self, features: FeatureRows) -> None:
        self.rows = features
        self._basis: Tensor | None = None
        if len(features) < features.dimension and len(features) <= _MAX_ROWS:
            self._basis, coordinates = torch.linalg.qr(features.sample(len(features)).double().T)
            self.rows = FeatureRows.from_array(coordinates.T.float().numpy())

    def expand(self, weights: Tensor) -> NDArray[np.float64]:
        """Weights of features (G, D) from weights of coordinates, float64 (G, M)."""
        expanded = weights if self._basis is None else weights @ self._basis.T
        values: NDArray[np.float64] = expanded.numpy()
        return values
