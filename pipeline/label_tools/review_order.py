"""The order in which videos are worth labelling: the least margin first, or the most disagreement of two results."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr

from datamodules.annotations.records import Task
from pipeline.label_tools.score_files import ScoreFile


def margins(scores: NDArray[np.float64], task: Task, threshold: float) -> NDArray[np.float64]:
    """How far each video is from another answer: float64 (M,), in [0, 1]; NaN without scores.

    With one class a video, the best probability less the second (margin sampling: Settles 2009, section 3.1); with
    several labels, the distance of the nearest probability from the threshold.

    Args:
        scores: probabilities, float (M, K).
        task: what the scores are of.
        threshold: probability from which on a class is a label; for several labels.
    """
    if task == "multi_label":
        nearest: NDArray[np.float64] = np.abs(scores - threshold).min(axis=1)
        return nearest
    ordered = np.sort(scores, axis=1)
    second = ordered[:, -2] if scores.shape[1] > 1 else np.zeros(len(scores))
    difference: NDArray[np.float64] = ordered[:, -1] - second
    return difference


def disagreements(first: NDArray[np.float64], second: NDArray[np.float64], task: Task) -> NDArray[np.float64]:
    """Jensen-Shannon divergence of two results' probabilities (Lin 1991), base 2: float64 (M,), in [0, 1].

    With several labels the mean over the classes, each with its two outcomes.

    Args:
        first: probabilities of a result, float (M, K).
        second: those of another result for the same videos.
        task: what they are of.
    """
    if task == "multi_label":
        pairs = (np.stack([one, 1 - one], axis=-1) for one in (first, second))
        divergence: NDArray[np.float64] = _divergence(*pairs).mean(axis=1)
        return divergence
    return _divergence(first, second)


def _divergence(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divergence over the last axis."""
    mean = (first + second) / 2
    total = rel_entr(first, mean).sum(axis=-1) + rel_entr(second, mean).sum(axis=-1)
    divergence: NDArray[np.float64] = np.clip(total / (2 * np.log(2)), 0.0, 1.0)  # rounding leaves -1e-17
    return divergence


def answers(scores: NDArray[np.float64], task: Task, threshold: float) -> NDArray[np.bool_]:
    """The classes that each video is given, bool (M, K): the best, or all that reach the threshold."""
    if task == "multi_label":
        reached: NDArray[np.bool_] = scores >= threshold
        return reached
    chosen = np.zeros(scores.shape, dtype=bool)
    chosen[np.arange(len(scores)), scores.argmax(axis=1)] = True
    return chosen


def review_order(files: Sequence[ScoreFile], threshold: float) -> tuple[list[int], list[dict[str, float]]]:
    """The order of the videos, and the figures that it is by.

    Args:
        files: one result, or two results of the same videos in the same order.
        threshold: probability from which on a class is a label; for several labels.

    Returns:
        Numbers of the videos with scores, the first to label first: by margin; of two results those with different
        answers first, by disagreement. Equal ones are in the order of their keys. And for each of the M videos margin
        (the smaller of two), and of two results disagreement.
    """
    scores, task = [np.asarray(file.scores, dtype=np.float64) for file in files], files[0].task
    missing = np.any([file.missing for file in files], axis=0)
    figures = {"margin": np.min([margins(one, task, threshold) for one in scores], axis=0)}
    ranks = [np.argsort(np.argsort(np.array(files[0].keys, dtype=object), kind="stable"), kind="stable")]
    ranks.append(figures["margin"])
    if len(scores) == 2:
        figures["disagreement"] = disagreements(scores[0], scores[1], task)
        first, second = (answers(one, task, threshold) for one in scores)
        ranks += [-figures["disagreement"], (first == second).all(axis=1)]
    order = [number for number in np.lexsort(ranks).tolist() if not missing[number]]
    names = list(figures)
    return order, [dict(zip(names, map(float, values), strict=True)) for values in zip(*figures.values(), strict=True)]
