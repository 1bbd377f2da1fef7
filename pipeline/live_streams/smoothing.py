"""`ExponentialMean`: class probabilities smoothed over the windows of a stream."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class ExponentialMean:
    """Exponentially weighted mean over time: the weight of what was falls to a half every half-life.

    For evenly spaced windows this is simple exponential smoothing with smoothing factor 1 - 2^(-stride / half-life)
    (Brown 1959); after a pause the weights of what was before it have fallen accordingly.

    Args:
        half_life_s: half-life in seconds; 0: no smoothing.
    """

    def __init__(self, half_life_s: float) -> None:
        self._half_life_s = half_life_s
        self._mean: NDArray[np.float64] | None = None
        self._time = 0.0

    def add(self, values: NDArray[Any], time: float) -> NDArray[np.float64]:
        """Takes the values, float (K,), of the moment `time`, in seconds; returns the mean, float64 (K,).

        >>> mean = ExponentialMean(2.0)
        >>> mean.add(np.array([1.0, 0.0]), 0.0).tolist(), mean.add(np.array([0.0, 1.0]), 2.0).tolist()
        ([1.0, 0.0], [0.5, 0.5])
        """
        new = np.asarray(values, np.float64)
        if self._mean is not None and self._half_life_s > 0:
            kept = 0.5 ** (max(0.0, time - self._time) / self._half_life_s)
            new = kept * self._mean + (1 - kept) * new
        self._mean, self._time = new, time
        return new
