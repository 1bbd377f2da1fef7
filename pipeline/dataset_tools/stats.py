"""`python -m pipeline stats`: statistics of a dataset, in tables and, with `--out`, charts."""

from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from datamodules.dataset.index_table import labels_by_row, read_index_table
from datamodules.dataset.manifest import Manifest, read_manifest
from datamodules.dataset.open_dataset import open_url
from datamodules.dataset.quarantine import read_quarantine, read_remote_quarantine
from datamodules.dataset.split_rows import assign_splits, with_split_counts
from datamodules.splits.split_file import read_split_file
from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.plain_text import is_utf8
from datamodules.storage.remote_files import RemoteFiles, split_root
from pipeline.cli.terminal import print_text
from pipeline.cli.text_table import TextTable, print_table
from pipeline.packing.source_notes import describe_columns
from pipeline.report.charts import BarChart, bar_charts
from pipeline.report.rendering import render

BAR_WIDTH = 30  # characters of the longest bar
MAX_ENTRIES = 10  # of more than 20 entries: classes at each end; 19 rates or sizes, and the sum of the others
ROUND_STEPS = (1, 2, 2.5, 5, 10)
NUM_BINS = 10
TRAIN = "train"  # the split whose imbalance matters: the one that training draws from
UNBALANCED, VERY_UNBALANCED, FEW_VIDEOS = 2, 10, 10  # see `describe_imbalance`


def stats(data: Path, out: Path | None = None, fold: str | None = None, split_file: str | None = None) -> None:
    """Print the videos and hours of each split, the videos of each class, and the durations, frame rates and sizes.

    Reads only the index, no shard.

    Args:
        data: folder or URL of the dataset.
        out: also draw the class balance and the durations, to a file that ends in .svg or .html.
        fold: the fold whose splits are shown, for datasets with folds; default: the first.
        split_file: name, path or URL of the split file whose splits or folds are shown; default: those in the index.

    Raises:
        ShardFormatError: there is no dataset in the folder.
        ValueError: there is no such fold, or `out` ends in neither .svg nor .html.
    """
    if out is not None and out.suffix not in (".svg", ".html"):
        raise ValueError(f"out={out}: must end in .svg or .html")
    manifest, table, refused = _read_dataset(data)
    chosen = None if split_file is None else read_split_file(split_file, data)
    if chosen is not None:
        table = assign_splits(table, chosen, manifest.name)
        manifest = with_split_counts(manifest, table, chosen.folds)
    if table.num_rows == 0:
        raise ValueError(f"data={data}: holds no video; pack again")
    splits, title = _splits(manifest, table, fold)
    seconds = table.column("duration_s").to_numpy()
    totals = Counter(dict.fromkeys(manifest.classes, 0))
    labels = labels_by_row(table)
    totals.update(manifest.classes[label] for row_labels in labels for label in row_labels)
    for shown in _split_tables(title, manifest, table, splits):
        print_table(shown)
    quarantined = pc.is_in(table.column("key"), value_set=pa.array(filter(is_utf8, refused), pa.string()))
    if left_out := Counter(splits[quarantined.to_numpy()].tolist()):
        counts_by_split = ", ".join(f"{name} {count}" for name, count in sorted(left_out.items()))
        print_text(f"counted here and never read, because quarantine.csv names them: {counts_by_split}\n")
    train_labels = [label for row in np.flatnonzero(splits == TRAIN) for label in labels[row]]
    metric = "mean average precision" if manifest.task == "multi_label" else "mean class accuracy"
    for line in describe_imbalance(np.bincount(np.array(train_labels, dtype=np.int64)), metric):
        print_text(f"{TRAIN}: {line}\n")
    if totals:
        print_table(_bar_table("videos a class", _shorten(totals.most_common())))
    edges, counts = duration_histogram(seconds)
    ranges = [f"{low:g} to {high:g} s" for low, high in pairwise(edges)]
    print_table(_bar_table("duration", list(zip(ranges, counts.tolist(), strict=True))))
    rates = Counter(f"{fps:.4g}" for fps in table.column("fps").to_numpy())
    print_table(_bar_table("frames a second", _shorten(rates.most_common(), "others")))
    sides = zip(table.column("width").to_pylist(), table.column("height").to_pylist(), strict=True)
    print_table(_bar_table("width x height", _shorten(Counter(f"{w}x{h}" for w, h in sides).most_common(), "others")))
    segments = table.filter(pc.is_valid(table.column("source_start")))
    if segments.num_rows:
        sources = pc.count_distinct(segments.column("source")).as_py()
        print_text(f"segments: {segments.num_rows} videos, cut out of {sources} longer ones")
    for line in describe_columns(table.column("variable_rate").to_pylist(), table.column("pixel_aspect").to_numpy()):
        print_text(line)
    if out is not None:
        charts = [BarChart("videos by duration in seconds", ranges, counts.tolist(), edges.tolist())]
        if totals:
            charts.insert(0, BarChart("videos a class", *zip(*totals.most_common(), strict=True)))
        as_page = out.suffix == ".html"
        text = render("dataset.html", title=title, charts=bar_charts(charts)) if as_page else bar_charts(charts, title)
        out.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
        print_text(f"wrote {out}")


def _read_dataset(data: Path) -> tuple[Manifest, pa.Table, Collection[str]]:
    """Manifest, index and quarantined keys of the dataset in a folder, whose shards need not be there, or at a URL."""
    root = split_root(data)
    if isinstance(root, Path):
        manifest = read_manifest(root)
        return manifest, read_index_table(root, manifest), read_quarantine(root)
    manifest, mapped, files = open_url(RemoteFiles(root))
    return manifest, mapped.table, read_remote_quarantine(files)


def duration_histogram(seconds: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Histogram of durations with at most ten bins of a round width, from the shortest to the longest video.

    Args:
        seconds: float64 (M,), the durations, in seconds, above 0; M >= 1.

    Returns:
        The edges, float64 (bins + 1,), in seconds, and the number of videos in [edge, next edge): int64 (bins,).
    """
    low, high = float(seconds.min()), float(seconds.max())
    min_width = max((high - low) / (NUM_BINS - 1), high / 20, 1e-3)
    power = 10.0 ** np.floor(np.log10(min_width))
    step = next(power * round_step for round_step in ROUND_STEPS if power * round_step >= min_width * (1 - 1e-9))
    first = np.floor(low / step)
    numbers = np.arange(first, np.floor(high / step) + 2)
    edges = numbers * step
    bins = np.clip(np.searchsorted(edges, seconds, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(bins, minlength=len(edges) - 1).astype(np.int64)
    return edges, counts


def describe_imbalance(class_sizes: NDArray[np.int64], metric: str) -> list[str]:
    """Sentences that say which options for unequal classes are worth a comparison; none for nearly equal classes.

    Rules of thumb of this project, by the ratio of the most frequent to the rarest class: from 2, one option; from 10,
    three of them; and fewer than 10 videos are named, because no option adds to what they show.

    Args:
        class_sizes: int64 (K,), training videos of each class; classes without videos do not count.
        metric: name of the metric to compare by.
    """
    sizes = class_sizes[class_sizes > 0]
    if len(sizes) < 2 or sizes.max() < UNBALANCED * sizes.min():
        return []
    options = "class_balance=sqrt"
    if sizes.max() >= VERY_UNBALANCED * sizes.min():
        options = "class_balance=sqrt, class_balance=balanced and class_weights=balanced"
    lines = [
        f"the most frequent class has {sizes.max() / sizes.min():.1f} times the videos of the rarest; compare the "
        f"{metric} of a plain training with that of {options}"
    ]
    if few := int((sizes < FEW_VIDEOS).sum()):
        lines.append(f"{few} of {len(sizes)} classes have fewer than {FEW_VIDEOS} videos; more of these help most")
    return lines


def _splits(manifest: Manifest, table: pa.Table, fold: str | None) -> tuple[NDArray[Any], str]:
    """The split of every row, and the title of the tables."""
    of_classes = f"of {len(manifest.classes)} classes" if manifest.classes else "without labels"
    classes = f"{manifest.name}: {table.num_rows} videos {of_classes}"
    if not manifest.folds:
        if fold is not None:
            raise ValueError(f"fold={fold}: {manifest.name} has no folds, its splits are fixed")
        return np.array(table.column("split").to_pylist()), classes
    fold = manifest.folds[0] if fold is None else fold
    if fold not in manifest.folds:
        raise ValueError(f"fold={fold}: {manifest.name} has the folds {', '.join(manifest.folds)}")
    splits = pc.list_element(table.column("fold_splits"), manifest.folds.index(fold))
    return np.array(splits.to_pylist()), f"{classes}, fold {fold} of {', '.join(manifest.folds)}"


def _split_tables(title: str, manifest: Manifest, table: pa.Table, splits: NDArray[Any]) -> list[TextTable]:
    """Two tables by split: the amounts of video, and the balance of the classes."""
    amounts = TextTable(title=title, title_justify="left")
    balance = TextTable()
    for shown, headings in [
        (amounts, ("videos", "hours", "MB", "shortest", "median", "longest")),
        (balance, ("classes", "without a video", "fewest videos", "median", "most", "most/fewest")),
    ]:
        shown.add_column("split")
        for heading in headings:
            shown.add_column(heading, justify="right")
    labels = labels_by_row(table)
    seconds, sizes = (table.column(name).to_numpy() for name in ("duration_s", "video_size"))
    names = sorted(set(splits.tolist()))
    for name in [*names, "total"] if len(names) > 1 else names:
        chosen = splits == name if name in names else np.ones(len(splits), bool)
        durations = seconds[chosen]
        lengths = [f"{length:.1f} s" for length in (durations.min(), np.median(durations), durations.max())]
        amounts.add_row(
            name, str(len(durations)), f"{durations.sum() / 3600:.2f}", f"{sizes[chosen].sum() / 1e6:.1f}", *lengths
        )
        flat = [label for row in np.flatnonzero(chosen) for label in labels[row]]
        counts = np.bincount(np.array(flat, dtype=np.int64), minlength=len(manifest.classes))
        nonempty = counts[counts > 0]
        if len(nonempty):
            class_values = [
                len(nonempty),
                len(counts) - len(nonempty),
                nonempty.min(),
                np.median(nonempty),
                nonempty.max(),
            ]
            balance.add_row(name, *(f"{number:g}" for number in class_values), f"{nonempty.max() / nonempty.min():.1f}")
    return [amounts, balance] if balance.row_count else [amounts]


def _shorten(counts: Sequence[tuple[str, int]], rest: str = "") -> list[tuple[str, int]]:
    """Shortens a list: the first and last `MAX_ENTRIES` or, with `rest`, the first 19 and the sum of the others."""
    if len(counts) <= 2 * MAX_ENTRIES:
        return list(counts)
    if rest:
        others = counts[2 * MAX_ENTRIES - 1 :]
        return [*counts[: 2 * MAX_ENTRIES - 1], (f"{len(others)} {rest}", sum(count for _, count in others))]
    return [*counts[:MAX_ENTRIES], (f"... {len(counts) - 2 * MAX_ENTRIES} more ...", -1), *counts[-MAX_ENTRIES:]]


def _bar_table(heading: str, counts: Sequence[tuple[str, int]]) -> TextTable:
    """A table with a bar beside every count; a count of -1 marks omitted rows."""
    table = TextTable(heading, "videos", "", box=None, pad_edge=False, header_style="bold")
    table.columns[1].justify = "right"
    highest = max(count for _, count in counts)
    for name, count in counts:
        bar = "█" * max(round(BAR_WIDTH * count / highest), count > 0)
        table.add_row(name, "" if count < 0 else str(count), bar)
    table.add_row("", "", "")
    return table
