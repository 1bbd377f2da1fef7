"""Progress of packing while it runs, and the summary at its end."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

from datamodules.annotations.refusals import HANG, Refusal
from datamodules.dataset.dataset_index import Manifest
from datamodules.splits.divided_videos import DividedVideos
from datamodules.storage.plain_text import printable
from pipeline.cli.progress import count_progress
from pipeline.cli.terminal import print_text
from pipeline.cli.text_table import TextTable, print_table
from pipeline.packing.class_order import sort_labels
from pipeline.packing.division import print_division
from pipeline.packing.shard_builder import PackProgress, PartResult
from pipeline.packing.source_notes import add_notes, describe_notes

_MAX_CLASSES = 12


class PackMeter:
    """Adds up progress from all threads and computes the rates of this run, without shards reused from earlier runs.

    Args:
        total: Number of videos in the lists.
        began: Start of the run, in seconds of `time.monotonic`.
    """

    def __init__(self, total: int, began: float):
        self.total = total
        self.done = 0
        self.refused = 0
        self.reused = 0
        self.source_bytes = 0
        self.stored_bytes: list[int] = []  # bytes written, for each rendition
        self.count: Callable[[int], None] = lambda videos: None  # called with the number of videos of each report
        self._began = began
        self._lock = threading.Lock()

    def add(self, progress: PackProgress) -> None:
        """Count a video, or all videos of a part that is reused."""
        with self._lock:
            self.done += progress.videos
            self.refused += progress.refused
            if progress.reused:
                self.reused += progress.videos
            else:
                self.source_bytes += progress.source_bytes
                sums = zip_longest(self.stored_bytes, progress.stored_bytes, fillvalue=0)
                self.stored_bytes = [before + new for before, new in sums]
        self.count(progress.videos)

    def text(self, now: float) -> str:
        """Rates, refusals and estimated remaining time, as one phrase."""
        seconds = max(now - self._began, 1e-3)
        num_new = self.done - self.reused
        phrases = [f"{num_new / seconds:.1f} videos/s", f"{self.source_bytes / seconds / 1e6:.1f} MB/s"]
        if self.stored_bytes:
            phrases.append(f"{' + '.join(f'{size / 1e6:.1f}' for size in self.stored_bytes)} MB written")
        phrases.append(f"{self.refused} refused")
        if self.reused:
            phrases.append(f"{self.reused} from an earlier run")
        if num_new and self.done < self.total:
            phrases.append(f"{_format_duration((self.total - self.done) * seconds / num_new)} left")
        return ", ".join(phrases)


@contextmanager
def show_progress(total: int) -> Iterator[PackMeter]:
    """Show the progress of a run over `total` videos on standard error, with the rates of the meter that it yields."""
    meter = PackMeter(total, time.monotonic())
    with count_progress("pack", total, "videos", lambda: meter.text(time.monotonic())) as meter.count:
        yield meter


def print_summary(
    manifest: Manifest,
    results: Sequence[PartResult],
    root: Path,
    seconds: float,
    unassigned: Sequence[Refusal] = (),
    divided: DividedVideos | None = None,
) -> None:
    """Print the summary on standard output: a table of the splits, notes on the sources, and the refusals.

    `unassigned` are the videos that the reader of the list refused, which are in no split; `divided` is the division of
    the videos into splits or folds, whose table follows.
    """
    table = TextTable(title=f"{manifest.name}: {describe_classes(manifest)}")
    sides = [str(rendition.short_side) for rendition in manifest.renditions]
    bytes_heading = f"MB at\n{' + '.join(sides)}" if sides else "MB after"
    for heading in ("split", "videos", "classes", "hours", "MB before", bytes_heading, "shards", "refused"):
        table.add_column(heading, justify="left" if heading == "split" else "right")
    splits = sorted({result.split for result in results})
    for split in splits:
        table.add_row(split, *_totals([result for result in results if result.split == split]))
    if len(splits) > 1:
        table.add_section()
        table.add_row("total", *_totals(results))
    print_table(table)
    for split in splits if manifest.classes and divided is None else ():
        counts = _class_counts([result for result in results if result.split == split])
        print_text(f"videos a class in {split}: {counts}")
    if divided is not None:
        print_division(divided, f"division by class into {divided.division.column}s")
    for fold, split_counts in () if divided is not None else manifest.fold_counts.items():
        counts = ", ".join(
            f"{counts_of.videos} {split}" for split, counts_of in sorted(split_counts.items(), reverse=True)
        )
        print_text(f"fold {fold}: {counts}")
    for line in describe_notes(add_notes(result.notes for result in results), manifest.encode):
        print_text(line)
    refused = [*unassigned, *(refusal for result in results for refusal in result.refused)]
    reasons = Counter(refusal.reason for refusal in refused)
    if reasons:
        counts = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        print_text(f"refused: {counts}; {root / 'quarantine.csv'} lists them")
        print_text("once they are mended, run again with --retry-quarantined")
        if HANG in reasons:
            print_text(
                "where not the video but the disk or machine is at fault for a hang, with a longer --timeout too"
            )
    empty = [
        name
        for name in manifest.classes
        if not any(counts_of.classes.get(name) for counts_of in manifest.splits.values())
    ]
    if empty:
        print_text(f"classes without a video: {', '.join(empty)}")
    reused = sum(result.reused for result in results)
    reused_phrase = f", {reused} of {len(results)} shards from an earlier run" if reused else ""
    for rendition in manifest.renditions[1:]:
        print_text(f"wrote {root / rendition.folder}, the same videos")
    print_text(f"wrote {root} in {_format_duration(seconds)}{reused_phrase}")


def describe_classes(manifest: Manifest) -> str:
    """The number of classes, or that there are none."""
    return f"{len(manifest.classes)} classes" if manifest.classes else "without labels"


def _class_counts(results: Sequence[PartResult]) -> str:
    """The number of videos of each class, the largest first; of more than 12 classes the first and last three."""
    counts = Counter(name for result in results for row in result.rows for name in row.description.class_names)
    phrases = [
        f"{printable(name)} {counts[name]}" for name in sorted(sort_labels(counts), key=lambda name: -counts[name])
    ]
    if len(phrases) > _MAX_CLASSES:
        phrases = [*phrases[:3], f"... ({len(phrases) - 6} more, `python -m pipeline stats` has all)", *phrases[-3:]]
    return ", ".join(phrases) or "none"


def _totals(results: Sequence[PartResult]) -> list[str]:
    rows = [row for result in results for row in result.rows]
    shards = [
        [result.shard, *(rendition.shard for rendition in result.smaller)]
        for result in results
        if result.shard is not None
    ]
    stored_bytes = [sum(shard.bytes for shard in rendition) for rendition in zip(*shards, strict=True)] or [0]
    return [
        str(len(rows)),
        str(len({name for row in rows for name in row.description.class_names})),
        f"{sum(row.description.duration_s for row in rows) / 3600:.2f}",
        f"{sum(result.source_bytes for result in results) / 1e6:.1f}",
        " + ".join(f"{size / 1e6:.1f}" for size in stored_bytes),
        str(len(shards)),
        str(sum(len(result.refused) for result in results)),
    ]


def _format_duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
