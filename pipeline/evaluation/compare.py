"""`python -m pipeline compare`: paired comparison of two results on the same videos."""

from pathlib import Path
from typing import Any

import numpy as np

from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.plain_text import to_json
from pipeline.cli.terminal import print_text
from pipeline.cli.text_table import TextTable, print_table
from pipeline.inference.output_paths import refuse_unwritable_file
from pipeline.metrics.confidence_intervals import DRAWS, LEVEL, Outcomes, difference_intervals, mcnemar
from pipeline.metrics.scored_videos import ScoredVideos, align, outcomes_of, predicted_classes, read_scored_videos

COMPARISON_NAME = "compare.json"
_PRINTED = 8


def compare(first: Path, second: Path, out: Path | None = None, common: bool = False, seed: int = 0) -> None:
    """Compare two results on the same videos: whether the second is better than the first, and where they differ.

    The difference of accuracies has a paired bootstrap interval over groups, and McNemar's exact test gives the
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
    one, other = align([read_scored_videos(first), read_scored_videos(second)], names, common)
    comparison = {"first": names[0], "second": names[1]} | compare_results(one, other, seed)
    write_comparison(path, comparison)
    print_comparison(comparison)
    print_text(f"wrote {path}")


def compare_results(first: ScoredVideos, second: ScoredVideos, seed: int = 0) -> dict[str, Any]:
    """Compares two results on the same videos in the same order.

    Returns:
        num_videos, num_groups; missing: videos without scores in first and second, which count as wrong; for top1,
        top5 and mean_class_accuracy: first, second, difference (second less first) and interval; mcnemar: only_first
        and only_second (videos that only this one got right), p_value; classes, those whose accuracy changed, the
        largest change first; flips, the videos that one got right and the other wrong.
    """
    one, other = outcomes_of(first), outcomes_of(second)
    intervals = difference_intervals(one, other, seed)
    figures = zip(intervals, _figures(one), _figures(other), strict=True)
    only_first, only_second = int((one.top1 & ~other.top1).sum()), int((other.top1 & ~one.top1).sum())
    return {
        "num_videos": len(one.labels),
        "num_groups": one.num_groups,
        "missing": {"first": int(first.missing.sum()), "second": int(second.missing.sum())},
        "interval": {"level": LEVEL, "of": "groups", "draws": DRAWS, "seed": seed},
        **{name: {"first": a, "second": b, "difference": b - a, "interval": intervals[name]} for name, a, b in figures},
        "mcnemar": {"only_first": only_first, "only_second": only_second, "p_value": mcnemar(only_first, only_second)},
        "classes": _changed_classes(first, one, other),
        "flips": _flips(first, second, one, other),
    }


def _figures(outcomes: Outcomes) -> tuple[float, float, float]:
    """Returns top-1, top-5 and mean class accuracy."""
    videos = np.bincount(outcomes.labels, minlength=outcomes.num_classes)
    right = np.bincount(outcomes.labels[outcomes.top1], minlength=outcomes.num_classes)
    return (
        float(outcomes.top1.mean()),
        float(outcomes.top5.mean()),
        float((right[videos > 0] / videos[videos > 0]).mean()),
    )


def _changed_classes(scored: ScoredVideos, one: Outcomes, other: Outcomes) -> list[dict[str, Any]]:
    rows = []
    for label, name in enumerate(scored.class_names):
        of = one.labels == label
        videos, before, after = int(of.sum()), int(one.top1[of].sum()), int(other.top1[of].sum())
        if before != after:
            rows.append({"class": name, "videos": videos, "first": before, "second": after})
    return sorted(rows, key=lambda row: -abs(row["second"] - row["first"]) / row["videos"])  # ties in label order


def _flips(first: ScoredVideos, second: ScoredVideos, one: Outcomes, other: Outcomes) -> list[dict[str, Any]]:
    answers = predicted_classes(first), predicted_classes(second)
    return [
        {
            "key": first.keys[number],
            "label": first.class_names[int(one.labels[number])],
            "first": _name(first, int(answers[0][number])),
            "second": _name(first, int(answers[1][number])),
            "right": "first" if one.top1[number] else "second",
        }
        for number in np.flatnonzero(one.top1 != other.top1).tolist()
    ]


def _name(scored: ScoredVideos, number: int) -> str | None:
    return None if number < 0 else scored.class_names[number]


def write_comparison(path: Path, comparison: dict[str, Any]) -> None:
    """Writes compare.json atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as temporary:
        temporary.write_text(to_json(comparison, indent=2) + "\n", encoding="utf-8")


def print_comparison(comparison: dict[str, Any]) -> None:
    """Prints the comparison: a table, then a verdict in words."""
    table = TextTable(
        title=f"{comparison['num_videos']} videos of {comparison['num_groups']} groups", title_justify="left"
    )
    for heading in ("", "first", "second", "difference", "95 % interval"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, word in (("top1", "top-1"), ("top5", "top-5"), ("mean_class_accuracy", "mean class")):
        row = comparison[name]
        interval = "one group" if row["interval"] is None else "{:+.1%} to {:+.1%}".format(*row["interval"])
        table.add_row(word, f"{row['first']:.1%}", f"{row['second']:.1%}", f"{row['difference']:+.1%}", interval)
    print_text(f"first   {comparison['first']}\nsecond  {comparison['second']}")
    print_table(table)
    test = comparison["mcnemar"]
    print_text(
        f"only the first is right on {test['only_first']} videos, only the second on {test['only_second']}: "
        f"p = {test['p_value']:.3g} (McNemar, exact)"
    )
    print_text(f"so {_verdict(comparison)}")
    for which, missing in comparison["missing"].items():
        if missing:
            print_text(f"videos without scores in the {which}, so counted as wrong: {missing}")
    for row in comparison["classes"][:_PRINTED]:
        print_text(f"  {row['class']}: {row['first']} to {row['second']} of {row['videos']}")
    left = len(comparison["classes"]) - _PRINTED
    if left > 0:
        print_text(f"  and {left} classes more that changed")


def _verdict(comparison: dict[str, Any]) -> str:
    interval = comparison["top1"]["interval"]
    if interval is None or interval[0] <= 0 <= interval[1]:
        return "the difference in top-1 may be chance: its interval holds 0"
    better = "second" if interval[0] > 0 else "first"
    return f"the {better} is better: the interval of the difference in top-1 does not hold 0"
