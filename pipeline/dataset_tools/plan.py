"""`python -m pipeline plan`: prints the epoch plan, the videos of each rank in an epoch, without reading videos."""

from dataclasses import dataclass

import numpy as np

from datamodules.annotations.records import ALL_VIDEOS
from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.loading.training_plan import make_training_plan
from datamodules.sampling.class_balance import BalancedEpoch, Strata
from datamodules.sampling.epoch_plan import TrainPlan
from datamodules.sampling.order_options import OrderOptions
from datamodules.storage.plain_text import printable
from pipeline.cli.terminal import print_text
from pipeline.cli.text_table import TextTable, print_table

MAX_CLASSES = 10  # of more than 20 classes, those shown at each end


@dataclass(frozen=True)
class PlanOptions(OrderOptions):
    """Options of `plan`.

    Attributes:
        data: folder or URL of the packed dataset.
        ranks: number of training processes.
        epoch: number of the epoch, from 0.
        split: split to train on; default: train, or all where the dataset is not divided.
        batch_size: videos of a rank in a step.
        consumed: videos of the epoch that all ranks together have already trained on, as recorded in a checkpoint.
        fold: the fold whose test videos are held out, for datasets with folds.
        split_file: name, path or URL of the split file whose splits or folds are taken; default: those in the index.
        rank: print the batches of this rank instead, a line a step: its number and the keys of its videos.
    """

    data: str
    ranks: int = 1
    epoch: int = 0
    split: str | None = None
    batch_size: int = 8
    consumed: int = 0
    fold: str | None = None
    split_file: str | None = None
    rank: int | None = None

    def check(self) -> None:
        """Raises ValueError where a number is out of range."""
        self.require_at_least(1, "ranks", "batch_size")
        self.require_at_least(0, "epoch", "consumed")


def plan(options: PlanOptions) -> None:
    """Show which videos each rank trains on in an epoch, and how many are left out.

    The epoch plan is that of training: the order depends on seed and epoch alone. No video is read.

    Args:
        options: the dataset, the number of ranks and the epoch.

    Raises:
        ValueError: an argument is out of range, there is no such split, or there are too few videos.
        ShardFormatError: `data` has no complete dataset.
    """
    index = DatasetIndex.open(options.data, split_file=options.split_file)
    split = options.split or (ALL_VIDEOS if index.manifest.is_undivided else "train")
    rows = index.rows(split, options.fold)
    ranks, epoch, consumed = options.ranks, options.epoch, options.consumed
    if consumed > len(rows):
        raise ValueError(f"consumed={consumed}: must be at most {len(rows)}, the videos of {split}")
    epoch_plan = make_training_plan(index, rows, options, options.batch_size, ranks)
    if options.rank is not None:
        _print_batches(index, rows, epoch_plan, epoch, options.rank, consumed)
        return
    ends = np.cumsum([shard.videos for shard in index.manifest.shards])
    table = TextTable("rank", "videos", "shards", "first batch", "last batch")
    num_read, is_drawn = 0, np.zeros(len(rows), dtype=bool)
    for rank in range(ranks):
        batches = list(epoch_plan.batches(epoch, rank, consumed))
        samples = np.concatenate([np.empty(0, dtype=np.int64), *batches])
        rank_rows = rows[samples]
        num_read += len(samples)
        is_drawn[samples] = True
        shards = len(np.unique(np.searchsorted(ends, rank_rows, side="right")))
        batch_keys = [_first_and_last_key(index, rows[batch]) for batch in (batches[:1] + batches[-1:])] or ["", ""]
        table.add_row(str(rank), str(len(rank_rows)), str(shards), *batch_keys)
    print_text(
        f"{index.name} {split}: {len(rows)} videos, dataset of {len(index.manifest.shards)} shards; "
        f"epoch {epoch}, seed {options.seed}, shuffle {options.shuffle}, class balance {options.class_balance}",
    )
    print_text(
        f"{epoch_plan.num_steps(consumed)} steps of {ranks} x {options.batch_size} videos; {consumed} consumed before, "
        f"{num_read} read, {len(rows) - consumed - num_read} left out",
    )
    left_out = int(np.isin(index.quarantined, rows, assume_unique=True).sum())
    if left_out:
        print_text(f"{left_out} quarantined videos keep their places and are not read")
    if epoch_plan.strata is not None:
        print_text(f"{is_drawn.sum()} of the {len(rows)} videos are read, some several times, by class:")
        print_table(_class_table(index, epoch_plan.strata, BalancedEpoch(epoch_plan.strata, options.seed, epoch)))
    print_table(table)


def _class_table(index: DatasetIndex, strata: Strata, balanced_epoch: BalancedEpoch) -> TextTable:
    """The draws of each stratum in a whole epoch; of more than 20, the 10 with the most videos and with the fewest."""
    heading = "class" if index.task == "single_label" else "rarest class of the video"
    table = TextTable(heading, "videos", "drawn in the epoch", "times each")
    order = np.argsort(-strata.sizes, kind="stable")
    shown = order if len(order) <= 2 * MAX_CLASSES else np.concatenate([order[:MAX_CLASSES], order[-MAX_CLASSES:]])
    for position, stratum in enumerate(shown):
        if position == MAX_CLASSES and len(shown) < len(order):
            table.add_row(f"... {len(order) - len(shown)} more ...", "", "", "")
        label, size = strata.classes[stratum], strata.sizes[stratum]
        drawn = balanced_epoch.draws_per_stratum[stratum]
        table.add_row(index.classes[label] if label >= 0 else "(none)", str(size), str(drawn), f"{drawn / size:.2f}")
    return table


def _print_batches(
    index: DatasetIndex, rows: np.ndarray, epoch_plan: TrainPlan, epoch: int, rank: int, consumed: int
) -> None:
    if not 0 <= rank < epoch_plan.world_size:
        raise ValueError(f"rank={rank}: there are ranks 0 to {epoch_plan.world_size - 1}")
    for step, batch in enumerate(epoch_plan.batches(epoch, rank, consumed)):
        print_text(f"{step} {' '.join(printable(index.entry(int(row)).key) for row in rows[batch])}")


def _first_and_last_key(index: DatasetIndex, rows: np.ndarray) -> str:
    """The first and the last key of a batch, as text."""
    keys = [index.entry(int(row)).key for row in (rows[:1].tolist() + rows[-1:].tolist())]
    return keys[0] if len(rows) == 1 else " .. ".join(keys)
