"""Division of videos into shards within bounds on videos and bytes; the first run's division is kept by later runs."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from datamodules.storage.atomic_write import write_atomically
from pipeline.packing.output_folder import PackError
from pipeline.packing.shard_builder import PARTS_FOLDER

DIVISION_NAME = "cut.json"

ShardSizes = dict[str, list[int]]  # the numbers of videos in the shards of each split


def divide_evenly(count: int, max_videos: int) -> list[int]:
    """Divides `count` videos into the fewest shards of at most `max_videos`, whose sizes differ by at most one.

    >>> cut_evenly(7, 3)
    [2, 2, 3]
    """
    shards = -(-count // max_videos)
    return [count * (i + 1) // shards - count * i // shards for i in range(shards)]


def divide_by_size(sizes: Sequence[int], max_videos: int, max_bytes: int) -> list[int]:
    """Divide a sequence of videos into shards.

    Args:
        sizes: The estimated size of each video in its shard, in bytes, in the order of the videos.
        max_videos: Maximum number of videos in a shard.
        max_bytes: Maximum number of bytes in a shard; a larger video is alone in its shard.

    Returns:
        The number of videos in each shard: `divide_evenly` where it is within both bounds; else, of the divisions into
        the fewest shards, the one whose largest shard is smallest.
    """
    even = divide_evenly(len(sizes), max_videos)
    if max(_shard_bytes(sizes, even), default=0) <= max_bytes:
        return even
    fewest = len(_fill_shards(sizes, max_videos, max_bytes))
    low, high = max((size for size in sizes if size <= max_bytes), default=0), max_bytes
    while low < high:
        middle = (low + high) // 2
        if len(_fill_shards(sizes, max_videos, middle)) <= fewest:
            high = middle
        else:
            low = middle + 1
    return _fill_shards(sizes, max_videos, high)


def _fill_shards(sizes: Sequence[int], max_videos: int, max_bytes: int) -> list[int]:
    """Fill one shard after the other; a video larger than `max_bytes` is alone in its shard."""
    shards: list[int] = []
    count = filled = 0
    for size in sizes:
        if count and (count == max_videos or filled + size > max_bytes):
            shards.append(count)
            count = filled = 0
        count, filled = count + 1, filled + size
    return [*shards, count] if count else shards


def _shard_bytes(sizes: Sequence[int], counts: Sequence[int]) -> list[int]:
    sums, start = [], 0
    for count in counts:
        sums.append(sum(sizes[start : start + count]))
        start += count
    return sums


def reuse_division(root: Path, counts: Mapping[str, int], divide: Callable[[], ShardSizes]) -> ShardSizes:
    """Keep the division of a folder's first run for all later runs, as files may appear or change size in between.

    Args:
        root: The folder of the dataset, locked; its options are equal to those of the first run.
        counts: Number of videos of each split.
        divide: Computes the division; called in the first run only.

    Raises:
        PackError: The record of the first run is damaged.
    """
    path = root / PARTS_FOLDER / DIVISION_NAME
    if not path.exists():
        sizes_by_split = divide()
        with write_atomically(path) as temporary:
            temporary.write_text(json.dumps(sizes_by_split) + "\n", encoding="utf-8")
        return sizes_by_split
    try:
        recorded: ShardSizes = json.loads(path.read_text(encoding="utf-8"))
        if {split: sum(sizes) for split, sizes in recorded.items()} == counts:
            return recorded
    except (OSError, ValueError, TypeError, AttributeError):
        pass
    raise PackError(f"out={root}: {PARTS_FOLDER}/{DIVISION_NAME} is damaged; remove the folder")
