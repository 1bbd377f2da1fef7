"""`python -m pipeline plan`: who reads what in an epoch of training, before anything is read."""

import numpy as np

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.sampling.epoch_plan import Shuffle, TrainPlan
from datamodules.storage.plain_text import printable
from pipeline.cli.terminal import say
from pipeline.cli.text_table import TextTable, print_table


def plan(
    data: str,
    ranks: int = 1,
    epoch: int = 0,
    split: str = "train",
    batch_size: int = 8,
    consumed: int = 0,
    seed: int = 0,
    shuffle: Shuffle = "global",
    shard_window: int = 16,
    drop_last: bool = False,
    fold: str | None = None,
    rank: int | None = None,
) -> None:
    """Show which videos each rank trains on in an epoch, and what is left out of it.

    The same arithmetic as in training: the order depends on seed and epoch alone. No video is read.

    Args:
        data: folder or URL of the packed dataset.
        ranks: number of training processes.
        epoch: number of the epoch, from 0.
        split: split to train on.
        batch_size: videos a rank takes in a step.
        consumed: videos of the epoch that all ranks together have trained on already, as a checkpoint says.
        seed: key of the order.
        shuffle: `global`, `shards` or `none`.
        shard_window: shards shuffled together, for `shuffle: shards`.
        drop_last: leave out the smaller last step of an epoch.
        fold: for datasets with folds.
        rank: list this rank's batches instead, a line a step: its number and the keys of its videos.

    Raises:
        ValueError: an argument out of range, no such split, too few videos.
        ShardFormatError: `data` holds no whole dataset.
    """
    index = DatasetIndex.open(data)
    rows = index.rows(split, fold)
    if epoch < 0 or not 0 <= consumed <= len(rows):
        raise ValueError(f"epoch={epoch}, consumed={consumed}: must be at least 0, and consumed at most {len(rows)}")
    sizes = index.shard_sizes(rows) if shuffle == "shards" else ()
    planned = TrainPlan(len(rows), batch_size, ranks, seed, shuffle, sizes, shard_window, drop_last)
    if rank is not None:
        _print_batches(index, rows, planned, epoch, rank, consumed)
        return
    ends = np.cumsum([shard.videos for shard in index.manifest.shards])
    table = TextTable("rank", "videos", "shards", "first batch", "last batch")
    read = 0
    for each in range(ranks):
        batches = list(planned.batches(epoch, each, consumed))
        taken = rows[np.concatenate([np.empty(0, dtype=np.int64), *batches])]
        read += len(taken)
        shards = len(np.unique(np.searchsorted(ends, taken, side="right")))
        edges = [_ends(index, rows[batch]) for batch in (batches[:1] + batches[-1:])] or ["", ""]
        table.add_row(str(each), str(len(taken)), str(shards), *edges)
    say(
        f"{index.name} {split}: {len(rows)} videos, dataset of {len(index.manifest.shards)} shards; epoch {epoch}, "
        f"seed {seed}, shuffle {shuffle}",
    )
    say(
        f"{planned.num_steps(consumed)} steps of {ranks} x {batch_size} videos; {consumed} consumed before, "
        f"{read} read, {len(rows) - consumed - read} left out",
    )
    left_out = int(np.isin(index.quarantined, rows, assume_unique=True).sum())
    if left_out:
        say(f"{left_out} quarantined videos keep their places and are not read")
    print_table(table)


def _print_batches(
    index: DatasetIndex, rows: np.ndarray, planned: TrainPlan, epoch: int, rank: int, consumed: int
) -> None:
    if not 0 <= rank < planned.world_size:
        raise ValueError(f"rank={rank}: there are ranks 0 to {planned.world_size - 1}")
    for step, batch in enumerate(planned.batches(epoch, rank, consumed)):
        say(f"{step} {' '.join(printable(index.entry(int(row)).key) for row in rows[batch])}")


def _ends(index: DatasetIndex, rows: np.ndarray) -> str:
    """The first and the last key of a batch."""
    keys = [index.entry(int(row)).key for row in (rows[:1].tolist() + rows[-1:].tolist())]
    return keys[0] if len(rows) == 1 else " .. ".join(keys)
