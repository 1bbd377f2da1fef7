"""Class-balanced training on real shards: what the loader reads, and what it refuses."""

from collections import Counter

import numpy as np
import pytest
import torch

from datamodules.dataset.dataset_index import DatasetIndex
from datamodules.loading.resume import order_state, resume_point
from datamodules.loading.training_plan import class_frequencies, make_training_plan
from datamodules.sampling.batch_sampler import ResumePoint, TrainRequests
from tests.datamodules.loading.test_planned_loader import epoch, module, same
from tests.datamodules.loading.test_planned_loader_layouts import loaders_of_ranks
from tests.relabelled_dataset import write_relabelled


@pytest.mark.parametrize("rule", ["sqrt", "balanced"])
def test_an_epoch_has_the_classes_in_their_shares(unbalanced_dataset, rule):
    data = module(unbalanced_dataset, class_balance=rule)
    labels = torch.cat([batch.labels for batch in epoch(data.train_dataloader())])
    counts = Counter(data.class_names[label] for label in labels.tolist())
    assert len(labels) == 16
    shares = {"balanced": (16 / 3,) * 3, "sqrt": np.sqrt([11, 4, 1]) * 16 / np.sqrt([11, 4, 1]).sum()}[rule]
    for name, share in zip(("often", "seldom", "once"), shares, strict=True):
        assert counts[name] in (int(share), int(share) + 1)


def test_a_video_that_comes_again_is_another_clip(unbalanced_dataset):
    data = module(unbalanced_dataset, class_balance="balanced", num_frames=4)
    batches = epoch(data.train_dataloader())
    once = data.class_names.index("once")
    clips = [clip for batch in batches for clip, label in zip(batch.clips, batch.labels, strict=True) if label == once]
    seeds = [seed for batch in batches for seed in batch.seeds]
    assert len(clips) in (5, 6)
    assert len({clip.numpy().tobytes() for clip in clips}) > 1
    assert len(set(seeds)) == len(seeds) == 16


def test_a_balanced_epoch_resumes_exactly_whatever_the_workers(unbalanced_dataset):
    settings = {"class_balance": "balanced", "worker_start": "fork"}
    loader = module(unbalanced_dataset, **settings).train_dataloader()
    whole = epoch(loader, 2)
    resumed = module(unbalanced_dataset, num_workers=2, **settings)
    resumed._progress.resume = loader.sampler.point_after(2)
    assert resumed._progress.resume == ResumePoint(2, 6, 2)
    assert same(list(resumed.train_dataloader()), whole[2:])


@pytest.mark.parametrize(("ranks", "workers"), [(3, 0), (2, 1)])
def test_other_ranks_and_workers_read_the_draws_that_are_left(unbalanced_dataset, ranks, workers):
    """Stopped after 2 steps of 2 ranks x 2 videos; continued by others, with 3 videos a step."""
    data = module(unbalanced_dataset, test_split="train", num_workers=workers, worker_start="fork")
    rows = data.index.rows("train")
    order = module(unbalanced_dataset, class_balance="balanced").options

    def requests(rank, world, batch_size, resume):
        return TrainRequests(make_training_plan(data.index, rows, order, batch_size, world), rank, resume)

    def keys(samples):
        return Counter(data.index.entry(int(rows[sample])).key for sample in samples)

    whole = keys(sample for request in requests(0, 1, 4, ResumePoint(1)) for sample in request.samples)
    first = [request for rank in range(2) for request in list(requests(rank, 2, 2, ResumePoint(1)))[:2]]
    point = requests(0, 2, 2, ResumePoint(1)).point_after(2)
    loaders = loaders_of_ranks(data, lambda rank, world: requests(rank, world, 3, point), ranks, workers)
    batches = [list(loader) for loader in loaders]
    read = Counter(key for batches_of_rank in batches for batch in batches_of_rank for key in batch.keys)
    left = whole - keys(sample for request in first for sample in request.samples)
    assert (point.consumed, whole.total(), left.total()) == (8, 16, 8)
    assert read <= left
    assert read.total() == 8 - 8 % ranks  # the last step has the same size on every rank
    assert len({len(batches_of_rank) for batches_of_rank in batches}) == 1


def test_a_checkpoint_of_another_balance_is_refused_within_an_epoch(unbalanced_dataset):
    data = module(unbalanced_dataset)
    state = {"dataset": data.identity, "order": order_state(data.options), "epoch": 1, "consumed": 6, "steps": 2}
    assert resume_point(state, data.identity, data.options) == ResumePoint(1, 6, 2)
    del state["order"]["class_balance"]  # of a checkpoint before there was the option
    assert resume_point(state, data.identity, data.options) == ResumePoint(1, 6, 2)
    balanced = module(unbalanced_dataset, class_balance="sqrt").options
    with pytest.raises(ValueError, match=r"class_balance=sqrt \(it was none\)"):
        resume_point(state, data.identity, balanced)


def test_frequencies_are_those_of_what_an_epoch_reads(unbalanced_dataset):
    data = module(unbalanced_dataset)
    assert data.class_names == ["often", "once", "seldom"]
    assert data.class_frequencies == pytest.approx([11 / 16, 1 / 16, 4 / 16])
    balanced = module(unbalanced_dataset, class_balance="balanced")
    assert balanced.class_frequencies == pytest.approx([1 / 3] * 3)


def test_several_labels_and_quarantined_videos(motion_dataset, tmp_path):
    source = DatasetIndex.open(motion_dataset)
    rows = source.rows("train").tolist()
    videos = [["a"], ["a", "b"], ["a"], [], ["a"]]
    folder = write_relabelled(source, tmp_path / "several", dict(zip(rows, videos, strict=False)))
    index = DatasetIndex.open(folder)
    labels, counts = index.flat_labels(index.rows("train"))
    assert (labels.tolist(), counts.tolist()) == ([0, 0, 1, 0, 0], [1, 2, 1, 0, 1])
    assert class_frequencies(index, index.rows("train"), "none") == pytest.approx([4 / 5, 1 / 5])
    # The video of b has factor 4, the others 1: its share of the draws is 4 / 8.
    assert class_frequencies(index, index.rows("train"), "balanced") == pytest.approx([7 / 8, 4 / 8])
    drawn = [key for batch in epoch(module(folder, class_balance="balanced").train_dataloader()) for key in batch.keys]
    assert len(drawn) == 5
    assert drawn.count(index.entry(1).key) in (2, 3)  # 4 / 8 of 5
    (folder / "quarantine.csv").write_text(f"key\n{index.entry(0).key}\n")
    index = DatasetIndex.open(folder)
    assert class_frequencies(index, index.rows("train"), "none") == pytest.approx([3 / 4, 1 / 4])


def test_videos_without_labels_and_other_orders_are_refused(motion_dataset, tmp_path):
    source = DatasetIndex.open(motion_dataset)
    rows = source.rows("train").tolist()
    folder = write_relabelled(source, tmp_path / "some", dict(zip(rows, ["a", "", "a", "b"], strict=False)))
    message = "class_balance='sqrt': 1 of the 4 training videos of relabelled have no label to balance by"
    with pytest.raises(ValueError, match=message):
        module(folder, class_balance="sqrt").train_dataloader()
    module(folder).train_dataloader()
    for shuffle in ("shards", "none"):
        with pytest.raises(ValueError, match=f"class_balance='balanced', shuffle='{shuffle}': a balanced epoch draws"):
            module(folder, class_balance="balanced", shuffle=shuffle)
