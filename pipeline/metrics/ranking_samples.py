"""Bootstrap samples of groups for average precision and top-1 hits; intervals of results and of their differences."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.average_precision import Flags, Matrix, rankable_scores, top_one_hits
from pipeline.metrics.confidence_intervals import DRAWS, Integers, Interval, percentile_interval, resample_groups

# Draws x videos x classes, which take half a minute; larger results get fewer draws, at least 200.
_MAX_WORK = 4_000_000_000
_MIN_DRAWS = 200


class RankingSamples(NamedTuple):
    """The figures of S bootstrap samples of groups.

    Attributes:
        precisions: average precision of each class, float64 (S, K); NaN where a sample has no video of the class.
        hits: top1_hit, float64 (S,); NaN where a sample has no video with a label.
    """

    precisions: NDArray[np.float64]
    hits: NDArray[np.float64]

    @property
    def means(self) -> NDArray[np.float64]:
        """Mean average precision over the classes that each sample has: float64 (S,)."""
        counts = (~np.isnan(self.precisions)).sum(axis=1)
        means: NDArray[np.float64] = np.nansum(self.precisions, axis=1) / np.where(counts, counts, np.nan)
        return means


def num_draws(num_videos: int, num_classes: int) -> int:
    """Number of bootstrap samples: 2,000, or fewer where videos times classes exceed two million, at least 200."""
    return max(_MIN_DRAWS, min(DRAWS, _MAX_WORK // max(1, num_videos * num_classes)))


def draw_ranking_samples(
    scores: Matrix, labels: Matrix, missing: Flags, groups: Integers, seed: int = 0
) -> RankingSamples | None:
    """Draws bootstrap samples of groups; None with a single group. The same seed and groups give the same samples.

    Args:
        scores: float (M, K).
        labels: (M, K), 1 or 0.
        missing: bool (M,), whether each video is without scores.
        groups: int64 (M,), the number of each video's group, in [0, G).
        seed: seed of the samples.
    """
    num_groups = int(groups.max(initial=-1)) + 1
    if num_groups < 2:
        return None
    ranked, labels = rankable_scores(scores, missing), np.asarray(labels) > 0
    rankings = [_Ranking(ranked[:, number], labels[:, number]) for number in range(labels.shape[1])]
    hits, labelled = top_one_hits(scores, labels, missing), labels.any(axis=1)
    precisions, shares = [], []
    for group_weights in resample_groups(num_groups, seed, num_draws(*labels.shape)):
        weights = group_weights[:, groups]
        precisions.append(np.stack([ranking.precisions(weights) for ranking in rankings], axis=1))
        totals = weights @ labelled
        shares.append((weights @ hits) / np.where(totals > 0, totals, np.nan))
    return RankingSamples(np.concatenate(precisions), np.concatenate(shares))


def ranking_intervals(samples: RankingSamples | None, figure: float) -> dict[str, Interval]:
    """Intervals (95 %) of mean_average_precision, which is `figure`, and of top1_hit; None where nothing varies."""
    if samples is None:
        return dict.fromkeys(("mean_average_precision", "top1_hit"))
    hits = samples.hits[~np.isnan(samples.hits)]
    of_hits = percentile_interval(hits) if len(hits) and hits.min() < hits.max() else None
    return {"mean_average_precision": _centered_interval(samples.means, figure), "top1_hit": of_hits}


def class_intervals(samples: RankingSamples | None, figures: Sequence[float | None]) -> list[Interval]:
    """Intervals (95 %) of the average precision of each class, over the samples that have its videos.

    Args:
        samples: the bootstrap samples; None gives no intervals.
        figures: average precision of each of the K classes; None where it has no video.
    """
    if samples is None:
        return [None] * len(figures)
    columns = zip(samples.precisions.T, figures, strict=True)
    return [None if figure is None else _centered_interval(column, figure) for column, figure in columns]


def difference_of_samples(
    first: RankingSamples | None, second: RankingSamples | None, difference: float
) -> dict[str, Interval]:
    """Intervals (95 %) of second minus first, paired: both are of the same samples of groups.

    Args:
        first: samples of the first result.
        second: samples of the second result.
        difference: the difference of the mean average precisions of all videos.
    """
    if first is None or second is None:
        return dict.fromkeys(("mean_average_precision", "top1_hit"))
    means, hits = second.means - first.means, second.hits - first.hits
    low, high = percentile_interval(means - np.nanmean(means) + difference)
    return {"mean_average_precision": [low, high], "top1_hit": percentile_interval(hits[~np.isnan(hits)])}


def _centered_interval(values: NDArray[np.float64], figure: float) -> Interval:
    """Percentiles of the samples, moved by what their mean differs from the figure, within [0, 1].

    A sample has some videos several times, and equal scores share a rank: its average precision is larger than that of
    as many different videos.
    """
    found = values[~np.isnan(values)]
    if not len(found) or found.min() == found.max():
        return None
    low, high = percentile_interval(found - found.mean() + figure)
    return [max(0.0, low), min(1.0, high)]


class _Ranking:
    """The order of M videos by their scores of one class, for which weighted average precisions are computed."""

    def __init__(self, scores: NDArray[np.float64], labels: Flags) -> None:
        self._order = np.argsort(-scores, kind="stable")
        ranked, positive = scores[self._order], labels[self._order]
        is_last = np.append(ranked[1:] != ranked[:-1], True)  # of the videos of the same score
        ends = np.flatnonzero(is_last)
        self._places = np.flatnonzero(positive)
        # The ends of the scores that have a positive, and how many positives lie up to each of them.
        counts = np.searchsorted(self._places, ends, side="right")
        gains = np.diff(counts, prepend=0) > 0
        self._ends, self._counts = ends[gains], counts[gains]

    def precisions(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Average precision with weighted videos, weights float64 (S, M): float64 (S,), NaN without a positive."""
        ranked = weights[:, self._order]
        positives = np.cumsum(ranked[:, self._places], axis=1)[:, self._counts - 1]
        if not positives.shape[1]:
            return np.full(len(weights), np.nan)
        ranks = np.cumsum(ranked, axis=1)[:, self._ends]
        gains = np.diff(positives, axis=1, prepend=0)
        total = positives[:, -1]
        sums = (gains * positives / np.maximum(ranks, 1)).sum(axis=1)
        found: NDArray[np.float64] = sums / np.where(total > 0, total, np.nan)
        return found
