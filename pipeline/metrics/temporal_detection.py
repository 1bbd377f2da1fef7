"""Mean average precision of actions located in time, as ActivityNet defines it, and of frames, as Charades does.

A detection is right if it overlaps a labelled segment of its class by at least a temporal intersection over union
(tIoU), and no more confident detection has taken that segment. Average precision is the area under the interpolated
precision by recall, as in Pascal VOC 2011 and in the evaluation code of the ActivityNet challenge. Per-frame precision
is that of `Charades_v1_localize.m`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_modules.tasks.average_precision import class_average_precision
from pipeline.metrics.confidence_intervals import DRAWS, percentile_interval, resample_groups

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
FRAMES_PER_VIDEO = 25  # equally spaced moments at which Charades localization is scored


class TimedSegments(NamedTuple):
    """Segments of videos: labelled ones, or detections with scores.

    Attributes:
        videos: int64 (S,), number of each segment's video, in [0, V).
        classes: int64 (S,), class number of each segment, in [0, K).
        bounds: float64 (S, 2), start and end in seconds.
        scores: float64 (S,), confidences, higher is likelier; zeros for labelled segments.
    """

    videos: Integers
    classes: Integers
    bounds: Array
    scores: Array

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[int, int, float, float, float]]) -> "TimedSegments":
        """Segments from rows of video, class, start, end and score."""
        table = np.asarray(rows, dtype=np.float64).reshape(-1, 5)
        return cls(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:4], table[:, 4])

    def select(self, chosen: Any) -> "TimedSegments":
        """The segments at some indices, or where a mask is true."""
        return TimedSegments(*(field[chosen] for field in self))


class RankedHits(NamedTuple):
    """Detections of a class at one tIoU, the most confident first.

    Attributes:
        hits: bool (D,), whether each detection is right.
        videos: int64 (D,), number of each detection's video.
        truth_videos: int64 (S,), number of each labelled segment's video.
    """

    hits: NDArray[np.bool_]
    videos: Integers
    truth_videos: Integers


def temporal_iou(bounds: Array, others: Array) -> Array:
    """Temporal intersection over union of segments (A, 2) and (B, 2), start and end: float64 (A, B), in [0, 1]."""
    overlap = np.minimum(bounds[:, None, 1], others[None, :, 1]) - np.maximum(bounds[:, None, 0], others[None, :, 0])
    overlap = overlap.clip(0).astype(np.float64)
    lengths = (bounds[:, 1] - bounds[:, 0])[:, None] + (others[:, 1] - others[:, 0])[None]
    iou: Array = np.divide(overlap, lengths - overlap, out=np.zeros_like(overlap), where=lengths > overlap)
    return iou


def rank_hits(truth: TimedSegments, detections: TimedSegments, threshold: float) -> RankedHits:
    """Matches the detections of one class with its labelled segments.

    From the most confident detection on, each takes the segment of its video that it overlaps most, among those that
    are not taken yet and that it overlaps by a tIoU of at least `threshold`; it is wrong if there is none.

    Args:
        truth: labelled segments of the class.
        detections: detections of the class; equal scores count in their order.
        threshold: the tIoU, in (0, 1].
    """
    detections = detections.select(np.argsort(-detections.scores, kind="stable"))
    hits = np.zeros(len(detections.scores), bool)
    for video in np.unique(detections.videos).tolist():
        found, labelled = np.flatnonzero(detections.videos == video), truth.videos == video
        overlaps = temporal_iou(detections.bounds[found], truth.bounds[labelled])
        for number, row in zip(found.tolist(), overlaps, strict=True):
            if len(row) and row.max() >= threshold:
                hits[number] = True
                overlaps[:, row.argmax()] = -1  # taken: `row` is a view, and was read
    return RankedHits(hits, detections.videos, truth.videos)


def interpolated_average_precision(ranked: RankedHits, weights: Array) -> Array:
    """Area under the interpolated precision by recall, for samples of videos.

    Args:
        ranked: the detections of a class.
        weights: float64 (B, V), how often each video is in each of B samples.

    Returns:
        float64 (B,), in [0, 1]; NaN for a sample without a labelled segment of the class.
    """
    positives = weights[:, ranked.truth_videos].sum(axis=1)
    counts = weights[:, ranked.videos]
    right = np.cumsum(counts * ranked.hits, axis=1)
    seen = np.cumsum(counts, axis=1)
    precision = np.divide(right, seen, out=np.zeros_like(right), where=seen > 0)
    best_ahead = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    gained = np.diff(right, axis=1, prepend=0)
    area = (gained * best_ahead).sum(axis=1)
    precisions: Array = np.divide(area, positives, out=np.full(len(weights), np.nan), where=positives > 0)
    return precisions


def detection_report(
    truth: TimedSegments,
    detections: TimedSegments,
    class_names: Sequence[str],
    groups: Integers,
    thresholds: Sequence[float],
    seed: int = 0,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Mean average precision of detections, with bootstrap intervals by group of videos.

    Args:
        truth: labelled segments of V videos.
        detections: detections in the same videos.
        class_names: the K class names. Classes without a labelled segment do not count.
        groups: int64 (V,), number of each video's group, in [0, G).
        thresholds: the tIoUs, each in (0, 1].
        seed: seed of the bootstrap.
        draws: number of bootstrap samples.

    Returns:
        mean_average_precision, the mean over tIoUs, and its interval, [low, high] (95 %), None with a single group, and
            where all samples give the same figure, as when nothing was found at all;
        by_tiou, for each tIoU the same two; per_class, for each class segments, detections and average_precision by
        tIoU, None where it has no segment. All fractions in [0, 1].
    """
    everything = np.ones((1, len(groups)))
    num_groups = int(groups.max(initial=-1)) + 1
    ranked, rows = [], []
    for number, name in enumerate(class_names):
        labelled, found = truth.select(truth.classes == number), detections.select(detections.classes == number)
        row: dict[str, Any] = {"name": name, "segments": len(labelled.videos), "detections": len(found.videos)}
        if len(labelled.videos):
            ranked.append([rank_hits(labelled, found, threshold) for threshold in thresholds])
            precisions = [float(interpolated_average_precision(each, everything)[0]) for each in ranked[-1]]
        row["average_precision"] = precisions if len(labelled.videos) else None
        rows.append(row)
    if not ranked:
        raise ValueError("no video has a labelled segment of the network's classes")
    means = np.mean([row["average_precision"] for row in rows if row["average_precision"] is not None], axis=0)
    samples = _bootstrap(ranked, groups, num_groups, seed, draws) if num_groups > 1 else None
    by_tiou = {
        f"{threshold:g}": {
            "mean_average_precision": float(mean),
            "interval": None if samples is None else _interval(samples[:, position]),
        }
        for position, (threshold, mean) in enumerate(zip(thresholds, means, strict=True))
    }
    return {
        "mean_average_precision": float(means.mean()),
        "interval": None if samples is None else _interval(samples.mean(axis=1)),
        "by_tiou": by_tiou,
        "per_class": rows,
    }


def _interval(samples: Array) -> list[float] | None:
    return percentile_interval(samples) if len(samples) and samples.min() < samples.max() else None


def _bootstrap(
    ranked: Sequence[Sequence[RankedHits]], groups: Integers, num_groups: int, seed: int, draws: int
) -> Array:
    """Mean average precision by tIoU of samples of groups: float64 (B, tIoUs), over the classes that each sample has.

    Samples without any labelled segment are left out.
    """
    samples = []
    for group_weights in resample_groups(num_groups, seed, draws):
        weights = group_weights[:, groups]
        precisions = np.array([[interpolated_average_precision(each, weights) for each in row] for row in ranked])
        precisions = precisions[:, :, ~np.isnan(precisions).all(axis=(0, 1))]  # (classes, tIoUs, B)
        samples.append(np.nanmean(precisions, axis=0).T)
    return np.concatenate(samples)


def frame_average_precision(scores: Array, labels: NDArray[np.bool_]) -> dict[str, Any]:
    """Per-frame mean average precision, as Charades localization defines it.

    Args:
        scores: float64 (F, K), of the frames of all videos, `FRAMES_PER_VIDEO` of each.
        labels: bool (F, K), whether each frame shows each class.

    Returns:
        mean_average_precision, over classes that some frame shows; per_class, None for the others.
    """
    found = class_average_precision(torch.from_numpy(scores), torch.from_numpy(labels.astype(np.int64))).numpy()
    return {
        "mean_average_precision": float(np.nanmean(found)),
        "per_class": [None if np.isnan(value) else float(value) for value in found],
    }


def frame_moments(duration_s: float) -> Array:
    """The moments of a video at which frames are scored: float64 (25,), in seconds, the first at its beginning."""
    return np.arange(FRAMES_PER_VIDEO) / FRAMES_PER_VIDEO * duration_s


def frame_labels(moments: Array, segments: Sequence[tuple[int, float, float]], num_classes: int) -> NDArray[np.bool_]:
    """Whether each moment lies in a segment of each class, both ends included: bool (M, K).

    Args:
        moments: float64 (M,), in seconds.
        segments: class number, start and end, in seconds.
        num_classes: K.
    """
    labels = np.zeros((len(moments), num_classes), bool)
    for number, start, end in segments:
        labels[(moments >= start) & (moments <= end), number] = True
    return labels


def describe_thresholds(report: Mapping[str, Any]) -> str:
    """The figures by tIoU as text, such as `0.3: 81.2 %, 0.5: 60.0 %`."""
    return ", ".join(
        f"{threshold}: {100 * each['mean_average_precision']:.1f} %" for threshold, each in report["by_tiou"].items()
    )
