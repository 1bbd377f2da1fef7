"""`python -m pipeline compare`: paired comparison of two results on the same videos."""

from pathlib import Path
from typing import Any

import numpy as np

from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.plain_text import to_json
from pipeline.cli.terminal import print_text
from pipeline.cli.text_table import TextTable, print_table
from pipeline.evaluation.compare_rankings import compare_rankings
from pipeline.inference.output_paths import refuse_unwritable_file
from pipeline.metrics.accuracy import headline_figures
from pipeline.metrics.confidence_intervals import DRAWS, LEVEL, PredictionCorrectness, difference_intervals, mcnemar
from pipeline.metrics.scored_videos import (
    ScoredVideos,
    align,
    compute_correctness,
    predicted_classes,
    read_scored_videos,
)

COMPARISON_NAME = "compare.json"
_MAX_CLASSES_PRINTED = 8


def compare(first: Path, second: Path, out: Path | None = None, common: bool = False, seed: int = 0) -> None:
    """Compare two results on the same videos: whether the second is better than the first, and where they differ.

    With several labels a video, results are compared by mean average precision and top-1 hits, else by accuracies.

    The difference has a paired bootstrap interval over groups, and McNemar's exact test gives the
    probability of such a difference between two equally good results. Written to `out`: compare.json, with every class
    whose accuracy changed and every video that one result got right and the other wrong.

    Args:
        first: folder that `evaluate`, `linear` or `fuse` wrote, or its predictions.parquet.
        second: folder or file of the second result, in the same form.
        out: the file to write; default: compare.json in the folder of `second`.
        common: compare on the videos that both results have, and leave out the others.
        seed: seed of the bootstrap's samples.

    Raises:
        FileNotFoundError: the predictions do not exist.
        ValueError: the results are of different videos, labels or classes.
    """
    path = out or (second if second.is_dir() else second.parent) / COMPARISON_NAME
    refuse_unwritable_file(path)
    names = [str(first), str(second)]
    first_scored, second_scored = align([read_scored_videos(first), read_scored_videos(second)], names, common)
    comparison = {"first": names[0], "second": names[1]} | compare_results(first_scored, second_scored, seed)
    write_comparison(path, comparison)
    print_comparison(comparison)
    print_text(f"wrote {path}")


def compare_results(first: ScoredVideos, second: ScoredVideos, seed: int = 0) -> dict[str, Any]:
    """Compares two results on the same videos in the same order.

    Returns:
        num_videos, num_groups; missing: videos without scores in first and second, which count as wrong; for top1,
        top5 and mean_class_accuracy: first, second, difference (second less first) and interval; mcnemar: only_first
        and only_second (videos that only this one got right), p_value; classes, those whose accuracy changed, the
        largest change first; flips, the videos that one got right and the other wrong. With several labels a video, see
        `compare_rankings`.
    """
    if first.task == "multi_label":
        return compare_rankings(first, second, seed)
    first_hits, second_hits = compute_correctness(first), compute_correctness(second)
    intervals = difference_intervals(first_hits, second_hits, seed)
    accuracies = zip(intervals, _accuracies(first_hits), _accuracies(second_hits), strict=True)
    only_first, only_second = (
        int((first_hits.top1 & ~second_hits.top1).sum()),
        int((second_hits.top1 & ~first_hits.top1).sum()),
    )
    return {
        "task": first.task,
        "num_videos": len(first_hits.labels),
        "num_groups": first_hits.num_groups,
        "missing": {"first": int(first.missing.sum()), "second": int(second.missing.sum())},
        "interval": {"level": LEVEL, "of": first.grouping, "draws": DRAWS, "seed": seed},
        **{
            name: {"first": a, "second": b, "difference": b - a, "interval": intervals[name]}
            for name, a, b in accuracies
        },
        "mcnemar": {"only_first": only_first, "only_second": only_second, "p_value": mcnemar(only_first, only_second)},
        "classes": _changed_classes(first, first_hits, second_hits),
        "flips": _flips(first, second, first_hits, second_hits),
    }


def _accuracies(correctness: PredictionCorrectness) -> tuple[float, float, float]:
    """Returns top-1, top-5 and mean class accuracy."""
    videos = np.bincount(correctness.labels, minlength=correctness.num_classes)
    hits = np.bincount(correctness.labels[correctness.top1], minlength=correctness.num_classes)
    return (
        float(correctness.top1.mean()),
        float(correctness.top5.mean()),
        float((hits[videos > 0] / videos[videos > 0]).mean()),
    )


def _changed_classes(
    scored: ScoredVideos, first: PredictionCorrectness, second: PredictionCorrectness
) -> list[dict[str, Any]]:
    rows = []
    for label, name in enumerate(scored.class_names):
        is_class = first.labels == label
        videos, first_hits, second_hits = (
            int(is_class.sum()),
            int(first.top1[is_class].sum()),
            int(second.top1[is_class].sum()),
        )
        if first_hits != second_hits:
            rows.append({"class": name, "videos": videos, "first": first_hits, "second": second_hits})
    return sorted(rows, key=lambda row: -abs(row["second"] - row["first"]) / row["videos"])  # ties in label order


def _flips(
    first: ScoredVideos, second: ScoredVideos, first_hits: PredictionCorrectness, second_hits: PredictionCorrectness
) -> list[dict[str, Any]]:
    predictions = predicted_classes(first), predicted_classes(second)
    return [
        {
            "key": first.keys[number],
            "label": first.class_names[int(first_hits.labels[number])],
            "first": _class_name(first, int(predictions[0][number])),
            "second": _class_name(first, int(predictions[1][number])),
            "right": "first" if first_hits.top1[number] else "second",
        }
        for number in np.flatnonzero(first_hits.top1 != second_hits.top1).tolist()
    ]


def _class_name(scored: ScoredVideos, number: int) -> str | None:
    return None if number < 0 else scored.class_names[number]


def write_comparison(path: Path, comparison: dict[str, Any]) -> None:
    """Writes compare.json atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        temporary.write_text(to_json(comparison, indent=2) + "\n", encoding="utf-8")


def print_comparison(comparison: dict[str, Any]) -> None:
    """Prints the comparison: a table, then a verdict in words."""
    groups = f"{comparison['num_groups']} {comparison['interval']['of']}"
    table = TextTable(title=f"{comparison['num_videos']} videos of {groups}", title_justify="left")
    for heading in ("", "first", "second", "difference", "95 % interval"):
        table.add_column(heading, justify="left" if not heading else "right")
    figures = headline_figures(comparison)
    for name, label in figures.items():
        row = comparison[name]
        interval = "one group" if row["interval"] is None else "{:+.1%} to {:+.1%}".format(*row["interval"])
        table.add_row(label, f"{row['first']:.1%}", f"{row['second']:.1%}", f"{row['difference']:+.1%}", interval)
    print_text(f"first   {comparison['first']}\nsecond  {comparison['second']}")
    print_table(table)
    test, several = comparison["mcnemar"], comparison["task"] == "multi_label"
    verb = "has a label of the video on top in" if several else "is right on"
    print_text(
        f"only the first {verb} {test['only_first']} videos, only the second {test['only_second']}: "
        f"p = {test['p_value']:.3g} (McNemar, exact)"
    )
    print_text(f"so {_describe_verdict(comparison)}")
    for which, missing in comparison["missing"].items():
        if missing:
            print_text(f"videos without scores in the {which}, so counted as wrong: {missing}")
    for row in comparison["classes"][:_MAX_CLASSES_PRINTED]:
        if several:
            print_text(f"  {row['class']}: average precision {row['first']:.1%} to {row['second']:.1%}")
        else:
            print_text(f"  {row['class']}: {row['first']} to {row['second']} of {row['videos']}")
    num_left_out = len(comparison["classes"]) - _MAX_CLASSES_PRINTED
    if num_left_out > 0:
        print_text(f"  and {num_left_out} classes more that changed")


def _describe_verdict(comparison: dict[str, Any]) -> str:
    name, heading = next(iter(headline_figures(comparison).items()))
    interval = comparison[name]["interval"]
    if interval is None or interval[0] <= 0 <= interval[1]:
        return f"the difference in {heading} may be chance: its interval holds 0"
    better = "second" if interval[0] > 0 else "first"
    return f"the {better} is better: the interval of the difference in {heading} does not hold 0"
