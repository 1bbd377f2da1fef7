"""Calibration of probabilities: the reliability diagram and the expected calibration error (ECE)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_BINS = 15


def calibrate(confidence: NDArray[Any], correct: NDArray[np.bool_], num_bins: int = NUM_BINS) -> dict[str, Any]:
    """The reliability diagram and its ECE (Guo et al. 2017, section 2, equation 3; 15 bins as in their figures).

    Args:
        confidence: float (M,), the probability of each video's predicted class, in [0, 1]; M > 0.
        correct: bool (M,), whether the predicted class is the label.
        num_bins: number of bins, all of the same width.

    Returns:
        ece, the mean gap between confidence and accuracy, weighted by videos; mean_confidence; and bins, each with low
        and high (its limits, high included), videos, mean confidence and accuracy (None where the bin is empty).
    """
    edges = np.linspace(0, 1, num_bins + 1)
    bin_of_video = np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
    videos = np.bincount(bin_of_video, minlength=num_bins)
    confidence_sums = np.bincount(bin_of_video, weights=confidence, minlength=num_bins)
    correct_counts = np.bincount(bin_of_video, weights=correct, minlength=num_bins)
    bins = [
        {
            "low": float(edges[number]),
            "high": float(edges[number + 1]),
            "videos": int(count),
            "confidence": float(confidence_sums[number] / count) if count else None,
            "accuracy": float(correct_counts[number] / count) if count else None,
        }
        for number, count in enumerate(videos)
    ]
    ece = float(np.abs(correct_counts - confidence_sums).sum() / len(confidence))
    return {"ece": ece, "mean_confidence": float(confidence.mean()), "bins": bins}
