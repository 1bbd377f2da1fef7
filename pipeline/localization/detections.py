"""Detections: segments with a class and a confidence, made of the class scores of each second of a video."""

import numpy as np
from numpy.typing import NDArray

from pipeline.classify.timeline import runs_of_best_class, runs_of_true, second_end
from pipeline.metrics.temporal_detection import temporal_iou

Scores = NDArray[np.float32]
Detection = tuple[int, float, float, float]  # class number, start and end in seconds, confidence


def smooth_seconds(second_scores: Scores, window: int) -> Scores:
    """The mean scores of the `window` seconds around each second; at both ends of those that there are.

    Args:
        second_scores: float32 (S, K).
        window: odd number of seconds; 1 changes nothing.
    """
    if window == 1:
        return second_scores
    half, length = window // 2, len(second_scores)
    sums = np.concatenate([np.zeros((1, second_scores.shape[1])), np.cumsum(second_scores, axis=0, dtype=np.float64)])
    first = np.maximum(np.arange(length) - half, 0)
    last = np.minimum(np.arange(length) + half + 1, length)
    means: Scores = ((sums[last] - sums[first]) / (last - first)[:, None]).astype(np.float32)
    return means


def best_class_detections(second_scores: Scores, duration_s: float) -> list[Detection]:
    """Stretches of seconds with the same best class, as `classify --timeline` prints them; confidence: their mean."""
    return [_detection(second_scores, *run, duration_s) for run in runs_of_best_class(second_scores)]


def threshold_detections(
    second_scores: Scores, duration_s: float, thresholds: list[float], max_overlap: float
) -> list[Detection]:
    """Stretches of seconds in which a class reaches a threshold, for several thresholds, without near repetitions.

    A low threshold finds whole actions, a high one parts of which the network is sure; which of them is right, the
    confidences decide (after the temporal actionness grouping of Zhao et al., ICCV 2017).

    Args:
        second_scores: float32 (S, K), probabilities.
        duration_s: duration of the video, in seconds.
        thresholds: probabilities in [0, 1].
        max_overlap: tIoU in [0, 1] above which the less confident of two detections of a class is left out
            (non-maximum suppression).
    """
    kept = []
    for number in range(second_scores.shape[1]):
        found = {
            _detection(second_scores, number, first, last, duration_s)
            for threshold in thresholds
            for first, last in runs_of_true(second_scores[:, number] >= threshold)
        }
        kept += suppress_overlaps(sorted(found), max_overlap)
    return kept


def suppress_overlaps(detections: list[Detection], max_overlap: float) -> list[Detection]:
    """Non-maximum suppression of the detections of one class: the most confident of those that overlap stays.

    Args:
        detections: detections of one class in one video; among equal confidences the first stays.
        max_overlap: tIoU above which the less confident of two is left out.
    """
    remaining = sorted(detections, key=lambda each: -each[3])
    kept: list[Detection] = []
    while remaining:
        best, *others = remaining
        kept.append(best)
        bounds = np.array([each[1:3] for each in remaining])
        overlaps = temporal_iou(bounds[:1], bounds[1:])[0] if others else []
        remaining = [each for each, overlap in zip(others, overlaps, strict=True) if overlap <= max_overlap]
    return kept


def _detection(second_scores: Scores, number: int, first: int, last: int, duration_s: float) -> Detection:
    confidence = float(second_scores[first:last, number].mean())
    return number, float(first), second_end(last - 1, duration_s), round(confidence, 6)
