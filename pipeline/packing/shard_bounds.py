"""Division of videos into shards within bounds on videos and bytes; the first run's division is kept by later runs."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from datamodules.storage.atomic_write import write_atomically
from pipeline.packing.output_folder import PackError
from pipeline.packing.shard_builder import PARTS_FOLDER

CUT_NAME = "cut.json"

Cut = dict[str, list[int]]  # the numbers of videos in the shards of each split


def cut_evenly(count: int, most: int) -> list[int]:
    """Divides `count` videos into the fewest shards of at most `most`, whose sizes differ by at most one.

    >>> cut_evenly(7, 3)
    [2, 2, 3]
    """
    shards = -(-count // most)
    return [count * (i + 1) // shards - count * i // shards for i in range(shards)]


def cut_by_size(sizes: Sequence[int], most: int, most_bytes: int) -> list[int]:
    """Divide a sequence of videos into shards.

    Args:
        sizes: The estimated size of each video in its shard, in bytes, in the order of the videos.
        most: Maximum number of videos in a shard.
        most_bytes: Maximum number of bytes in a shard; a larger video is alone in its shard.

    Returns:
        The number of videos in each shard: `cut_evenly` where it is within both bounds; else, of the divisions into the
        fewest shards, the one whose largest shard is smallest.
    """
    even = cut_evenly(len(sizes), most)
    if max(_sums(sizes, even), default=0) <= most_bytes:
        return even
    fewest = len(_fill(sizes, most, most_bytes))
    low, high = max((size for size in sizes if size <= most_bytes), default=0), most_bytes
    while low < high:
        middle = (low + high) // 2
        if len(_fill(sizes, most, middle)) <= fewest:
            high = middle
        else:
            low = middle + 1
    return _fill(sizes, most, high)


def _fill(sizes: Sequence[int], most: int, most_bytes: int) -> list[int]:
    """Fill one shard after the other; a video larger than `most_bytes` is alone in its shard."""
    shards: list[int] = []
    count = filled = 0
    for size in sizes:
        if count and (count == most or filled + size > most_bytes):
            shards.append(count)
            count = filled = 0
        count, filled = count + 1, filled + size
    return [*shards, count] if count else shards


def _sums(sizes: Sequence[int], cut: Sequence[int]) -> list[int]:
    sums, start = [], 0
    for count in cut:
        sums.append(sum(sizes[start : start + count]))
        start += count
    return sums


def keep_cut(root: Path, counts: Mapping[str, int], decide: Callable[[], Cut]) -> Cut:
    """Keep the division of a folder's first run for all later runs, as files may appear or change size in between.

    Args:
        root: The folder of the dataset, locked; its options are equal to those of the first run.
        counts: Number of videos of each split.
        decide: Computes the division; called in the first run only.

    Raises:
        PackError: The record of the first run is damaged.
    """
    path = root / PARTS_FOLDER / CUT_NAME
    if not path.exists():
        cut = decide()
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps(cut) + "\n", encoding="utf-8")
        return cut
    try:
        kept: Cut = json.loads(path.read_text(encoding="utf-8"))
        if {split: sum(sizes) for split, sizes in kept.items()} == counts:
            return kept
    except (OSError, ValueError, TypeError, AttributeError):
        pass
    raise PackError(f"out={root}: {PARTS_FOLDER}/{CUT_NAME} is damaged; remove the folder")
