"""Confidence intervals of accuracies and of their differences by the cluster bootstrap; McNemar's exact test.

Videos cut from one source are alike, so the bootstrap draws groups, not videos (Field and Welsh 2007): an interval from
drawn videos would be too narrow. A video without a group is a group of its own.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.stats import binomtest

DRAWS = 2000
LEVEL = 0.95
_DRAWS_PER_BATCH = 100
Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Interval = list[float] | None


class PredictionCorrectness(NamedTuple):
    """Right or wrong for each of M videos, with labels and groups.

    Attributes:
        labels: int64 (M,), class numbers in [0, K).
        top1: bool (M,), whether the label is the best class.
        top5: bool (M,), whether the label is among the best five classes.
        groups: int64 (M,), the number of each video's group, in [0, G).
        num_classes: number of classes, K.
    """

    labels: Integers
    top1: Flags
    top5: Flags
    groups: Integers
    num_classes: int

    @property
    def num_groups(self) -> int:
        """Number of groups, G."""
        return int(self.groups.max(initial=-1)) + 1


def number_groups(groups: Sequence[str], keys: Sequence[str]) -> Integers:
    """Numbers the groups from 0: int64 (M,), the group of each video; a video whose group is "" is its own group."""
    names = [f"g {group}" if group else f"k {key}" for group, key in zip(groups, keys, strict=True)]
    numbers: Integers = np.unique(np.asarray(names, dtype=object).astype(str), return_inverse=True)[1]
    return numbers.astype(np.int64)


def accuracy_intervals(correctness: PredictionCorrectness, seed: int = 0, draws: int = DRAWS) -> dict[str, Interval]:
    """Percentile intervals (95 %) of top1, top5 and mean_class_accuracy, from `draws` bootstrap samples of G groups.

    Where all videos are right, or all wrong, every sample gives the same figure: the interval is then the exact
    binomial (Clopper-Pearson) interval of G trials. With a single group there is no interval.

    Args:
        correctness: right or wrong for each video.
        seed: seed of the bootstrap; the same seed gives the same intervals.
        draws: number of bootstrap samples.

    Returns:
        For each figure [low, high], fractions in [0, 1], or None with a single group.
    """
    if correctness.num_groups < 2:
        return dict.fromkeys(("top1", "top5", "mean_class_accuracy"))
    samples = [
        _resampled_accuracies(correctness, weights) for weights in resample_groups(correctness.num_groups, seed, draws)
    ]
    intervals: dict[str, Interval] = {}
    for number, name in enumerate(("top1", "top5", "mean_class_accuracy")):
        hits = correctness.top5 if name == "top5" else correctness.top1
        accuracies = np.concatenate([sample[number] for sample in samples])
        is_degenerate = hits.all() or not hits.any()
        intervals[name] = (
            _exact_interval(bool(hits[0]), correctness.num_groups) if is_degenerate else percentile_interval(accuracies)
        )
    return intervals


def difference_intervals(
    first: PredictionCorrectness, second: PredictionCorrectness, seed: int = 0, draws: int = DRAWS
) -> dict[str, Interval]:
    """Percentile intervals (95 %) of second minus first, paired: each bootstrap sample of groups evaluates both.

    Raises:
        ValueError: the two are not of the same videos in the same order.
    """
    if not (np.array_equal(first.labels, second.labels) and np.array_equal(first.groups, second.groups)):
        raise ValueError("the two are not of the same videos in the same order")
    names = ("top1", "top5", "mean_class_accuracy")
    if first.num_groups < 2:
        return dict.fromkeys(names)
    samples = [
        [
            one - other
            for one, other in zip(
                _resampled_accuracies(second, weights), _resampled_accuracies(first, weights), strict=True
            )
        ]
        for weights in resample_groups(first.num_groups, seed, draws)
    ]
    return {
        name: percentile_interval(np.concatenate([sample[n] for sample in samples])) for n, name in enumerate(names)
    }


def mcnemar(only_first: int, only_second: int) -> float:
    """McNemar's exact test, two-sided, of two results on the same videos; it assumes that videos are independent.

    Args:
        only_first: number of videos that only the first result got right.
        only_second: number of videos that only the second result got right.

    Returns:
        The p-value, in (0, 1]: the probability of counts at least this unequal if neither is better; 1 if both are 0.
    """
    total = only_first + only_second
    return float(binomtest(min(only_first, only_second), total, 0.5).pvalue) if total else 1.0


def wilson_interval(correct: int, total: int) -> Interval:
    """Wilson's score interval (95 %) of correct / total: [low, high]; None if `total` is 0.

    Videos are assumed to be independent.
    """
    if total == 0:
        return None
    interval = binomtest(correct, total).proportion_ci(LEVEL, method="wilson")
    return [float(interval.low), float(interval.high)]


def resample_groups(num_groups: int, seed: int, draws: int) -> Iterator[NDArray[np.float64]]:
    """Yields how often each group is in each bootstrap sample, 100 samples at a time: float64 (100, G), integers."""
    generator = np.random.default_rng([seed, num_groups])
    for start in range(0, draws, _DRAWS_PER_BATCH):
        count = min(_DRAWS_PER_BATCH, draws - start)
        chosen = generator.integers(0, num_groups, (count, num_groups)) + num_groups * np.arange(count)[:, None]
        yield np.bincount(chosen.ravel(), minlength=count * num_groups).reshape(count, num_groups).astype(np.float64)


def _resampled_accuracies(
    correctness: PredictionCorrectness, weights: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """top1, top5 and mean class accuracy of each bootstrap sample: three arrays, float64 (samples,)."""
    videos, hits, hits5 = (
        np.bincount(correctness.groups, weights=weight, minlength=correctness.num_groups)
        for weight in (None, correctness.top1, correctness.top5)
    )
    drawn = weights @ videos
    shape = (correctness.num_groups, correctness.num_classes)
    positions = (correctness.groups, correctness.labels)
    class_videos = weights @ csr_matrix((np.ones(len(correctness.labels)), positions), shape)
    class_hits = weights @ csr_matrix((correctness.top1.astype(np.float64), positions), shape)
    has_videos = class_videos > 0
    shares = np.divide(class_hits, class_videos, out=np.zeros_like(class_hits), where=has_videos)
    return [(weights @ hits) / drawn, (weights @ hits5) / drawn, shares.sum(1) / has_videos.sum(1)]


def percentile_interval(values: NDArray[Any]) -> list[float]:
    """The 2.5th and 97.5th percentile of the figures of bootstrap samples: [low, high]."""
    return [float(limit) for limit in np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])]


def _exact_interval(is_right: bool, trials: int) -> list[float]:
    interval = binomtest(trials if is_right else 0, trials).proportion_ci(LEVEL, method="exact")
    return [float(interval.low), float(interval.high)]
