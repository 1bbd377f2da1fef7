"""Comparison of two results on videos of several labels: mean average precision, top-1 hits, classes, changed hits."""

from typing import Any

import numpy as np

from pipeline.metrics.average_precision import average_precision_report, average_precisions, top_one_hits
from pipeline.metrics.confidence_intervals import LEVEL, mcnemar, number_groups
from pipeline.metrics.ranking_samples import difference_of_samples, draw_ranking_samples, num_draws
from pipeline.metrics.scored_videos import ScoredVideos, predicted_classes


def compare_rankings(first: ScoredVideos, second: ScoredVideos, seed: int = 0) -> dict[str, Any]:
    """Compares two results on the same videos of several labels in the same order.

    Returns:
        As `pipeline.evaluation.compare.compare_results`, with mean_average_precision and top1_hit in place of
        accuracies; McNemar's test is of top-1 hits, classes are those whose average precision changed, and flips the
        videos that one result hit and the other did not.
    """
    labels, groups = np.asarray(first.labels), number_groups(first.groups, first.keys)
    results, reports, samples, hits = (first, second), [], [], []
    for scored in results:
        scores = np.asarray(scored.scores, dtype=np.float64)
        reports.append(average_precision_report(scores, labels, scored.class_names, scored.missing))
        samples.append(draw_ranking_samples(scores, labels, scored.missing, groups, seed))
        hits.append(top_one_hits(scores, labels, scored.missing))
    difference = reports[1]["mean_average_precision"] - reports[0]["mean_average_precision"]
    intervals = difference_of_samples(samples[0], samples[1], difference)
    only_first, only_second = int((hits[0] & ~hits[1]).sum()), int((hits[1] & ~hits[0]).sum())
    predictions = [predicted_classes(scored) for scored in results]
    return {
        "task": first.task,
        "num_videos": len(labels),
        "num_groups": int(groups.max()) + 1,
        "missing": {"first": int(first.missing.sum()), "second": int(second.missing.sum())},
        "interval": {"level": LEVEL, "of": first.grouping, "draws": num_draws(*labels.shape), "seed": seed},
        **{
            name: {
                "first": reports[0][name],
                "second": reports[1][name],
                "difference": reports[1][name] - reports[0][name],
                "interval": interval,
            }
            for name, interval in intervals.items()
        },
        "mcnemar": {"only_first": only_first, "only_second": only_second, "p_value": mcnemar(only_first, only_second)},
        "classes": _changed_classes(first, second),
        "flips": [
            {
                "key": first.keys[number],
                "labels": [first.class_names[label] for label in np.flatnonzero(labels[number]).tolist()],
                "first": _class_name(first, int(predictions[0][number])),
                "second": _class_name(first, int(predictions[1][number])),
                "right": "first" if hits[0][number] else "second",
            }
            for number in np.flatnonzero(hits[0] != hits[1]).tolist()
        ],
    }


def _changed_classes(first: ScoredVideos, second: ScoredVideos) -> list[dict[str, Any]]:
    """The classes whose average precision changed, the largest change first."""
    labels = np.asarray(first.labels)
    columns = [average_precisions(np.asarray(of.scores), labels, of.missing) for of in (first, second)]
    rows = [
        {"class": name, "videos": int(count), "first": float(before), "second": float(after)}
        for name, count, before, after in zip(first.class_names, labels.sum(axis=0), *columns, strict=True)
        if count and before != after
    ]
    return sorted(rows, key=lambda row: -abs(row["second"] - row["first"]))


def _class_name(scored: ScoredVideos, number: int) -> str | None:
    return None if number < 0 else scored.class_names[number]
