"""Training plan of a split: its epoch plan, with its videos by class where epochs are class-balanced."""

import numpy as np

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.sampling.class_balance import ClassBalance, Strata, make_strata
from datamodules.sampling.epoch_plan import TrainPlan
from datamodules.sampling.order_options import OrderOptions


def make_training_plan(
    index: DatasetIndex, rows: np.ndarray, options: OrderOptions, batch_size: int, world_size: int
) -> TrainPlan:
    """Creates the epoch plan of some rows of an index.

    Args:
        index: the index of the dataset.
        rows: int64 (N,), the rows of the training split, ascending.
        options: order of the videos.
        batch_size: videos that a rank takes in a step.
        world_size: number of ranks.

    Raises:
        ValueError: too few videos for a step, or class-balanced epochs of videos without a label.
    """
    sizes = index.shard_sizes(rows) if options.shuffle == "shards" else ()
    strata = training_strata(index, rows, options.class_balance)
    return options.train_plan(len(rows), batch_size, world_size, sizes, strata)


def training_strata(index: DatasetIndex, rows: np.ndarray, class_balance: ClassBalance) -> Strata | None:
    """Divides the videos of a split by class, for class-balanced epochs; None for `none`.

    Quarantined videos are among them: as in the plain plan, they keep their places in the epoch, so that a video that
    is quarantined during a run changes nothing else.

    Raises:
        ValueError: a video has no label; in a dataset of several labels, where a video may have none, all have none; or
            labels have times, and a video has several.
    """
    if class_balance == "none":
        return None
    if index.has_timelines:
        raise ValueError(
            f"class_balance={class_balance!r}: {index.name} has labels by time, and a clip shows several classes; "
            "weigh them in the loss with model.init_args.class_weights=balanced"
        )
    labels, counts = index.flat_labels(rows)
    if unlabelled := count_unlabelled(index, rows):
        raise ValueError(
            f"class_balance={class_balance!r}: {unlabelled} of the {len(rows)} training videos of {index.name} have no "
            "label to balance by; pack them with labels, or use class_balance=none"
        )
    return make_strata(class_balance, labels, counts, len(index.classes))


def count_unlabelled(index: DatasetIndex, rows: np.ndarray) -> int:
    """The number of videos without a label; 0 in a dataset of several labels a video if any has one, as others may not.

    Args:
        index: The dataset.
        rows: Row numbers of the videos, int64.
    """
    _, counts = index.flat_labels(rows)
    count = int((counts == 0).sum())
    return count if index.task == "single_label" or count == len(rows) else 0


def class_frequencies(index: DatasetIndex, rows: np.ndarray, class_balance: ClassBalance) -> list[float]:
    """The fraction of an epoch's videos in each of K classes, as training reads them on average, in [0, 1].

    In a dataset of labels by time it is the fraction of the labelled time, or with several labels of the time of all.

    Class weights that follow from them complete what `class_balance` does, instead of doing it twice.

    Raises:
        ValueError: as for `training_strata`; or all videos are quarantined.
    """
    if index.has_timelines:
        return _time_shares(index, rows)
    labels, counts = index.flat_labels(rows)
    strata = training_strata(index, rows, class_balance)
    draws = np.ones(len(rows)) if strata is None else strata.draws_per_video()
    draws[np.isin(rows, index.quarantined)] = 0
    if not draws.any():
        raise ValueError(f"all {len(rows)} training videos of {index.name} are quarantined: there is none to count")
    totals = np.bincount(labels, np.repeat(draws, counts), minlength=len(index.classes))
    return [float(total) for total in totals / draws.sum()]


def _time_shares(index: DatasetIndex, rows: np.ndarray) -> list[float]:
    """The fraction of the time of some videos in each of K classes."""
    seconds = np.zeros(len(index.classes))
    for row in rows.tolist():
        for label, start, end in index.timeline(row):
            seconds[label] += end - start
    durations = np.asarray(index.column("duration_s", rows))
    total = float(durations.sum()) if index.task == "multi_label" else float(seconds.sum())
    return [float(share) for share in np.minimum(seconds / max(total, 1e-9), 1)]
