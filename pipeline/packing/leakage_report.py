"""The split guard at the end of packing: writes its findings to split_guard.csv, and warns of them or refuses."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from datamodules.dataset.dataset_index import DatasetIndex, ShardRow
from datamodules.dataset.manifest import MANIFEST_NAME
from datamodules.leakage.split_leakage import GuardedVideo, Leak, count_leaks, find_leaks
from datamodules.storage.atomic_write import write_atomically
from datamodules.storage.plain_text import write_cell
from pipeline.cli.terminal import print_text
from pipeline.packing.output_folder import PackError

GUARD_NAME = "split_guard.csv"
_LEAK_PHRASES = {
    "group": "whose group is on both sides of a split",
    "bytes": "stored twice, on both sides of a split",
    "content": "pairs that show nearly the same on both sides of a split",
}


def guard_splits(root: Path, rows: Sequence[ShardRow], strict: bool) -> list[Leak]:
    """Search for leakage between splits, list it in root/split_guard.csv, and warn or refuse.

    Args:
        root: Folder of the dataset, before dataset.json is written.
        rows: All videos of the dataset.
        strict: Refuse a dataset with leakage, instead of warning on standard error.

    Returns:
        The findings, as written to the file, which has only a header where there are none.

    Raises:
        PackError: There are findings, and `strict` is set.
    """
    leaks = sorted(find_leaks([to_guarded_video(row) for row in sorted(rows, key=lambda row: row.key)]))
    with write_atomically(root / GUARD_NAME) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Leak._fields)
        writer.writerows([write_cell(value) if isinstance(value, str) else value for value in leak] for leak in leaks)
    if not leaks:
        return leaks
    counts = ", ".join(f"{count} {_LEAK_PHRASES[kind]}" for kind, count in count_leaks(leaks).items())
    if strict:
        is_packed = (root / MANIFEST_NAME).exists()
        consequence = "the dataset of an earlier run stays as it is, but" if is_packed else "no dataset was made,"
        raise PackError(
            f"out={root}: {consequence} the split guard found {counts}: see {root / GUARD_NAME}, correct the lists and "
            "pack into another folder, or leave --strict out"
        )
    print_text(f"warning: split guard: {counts}; {root / GUARD_NAME} lists them", sys.stderr)
    return leaks


def to_guarded_video(row: ShardRow) -> GuardedVideo:
    """The input of the split guard for a packed video."""
    description = row.description
    return GuardedVideo(
        row.key,
        description.split,
        description.fold_splits,
        description.group,
        description.content_sha256,
        description.frame_hashes,
        description.duration_s,
    )


def guarded_videos(index: DatasetIndex, rows: np.ndarray) -> list[GuardedVideo]:
    """The input of the split guard for videos of a dataset, without their splits.

    Args:
        index: the index of the dataset.
        rows: row numbers of the videos, int64 (M,).
    """
    names = ("key", "group", "content_sha256", "frame_hashes", "duration_s")
    columns = [index.column(name, rows) for name in names]
    return [
        GuardedVideo(key, "", (), group, content, tuple(hashes or ()), float(seconds))
        for key, group, content, hashes, seconds in zip(*columns, strict=True)
    ]
