"""The guarantees of the feed over layouts: ranks x DataLoader workers, with real loaders, workers and decoding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.loading.planned_loader import PlannedLoader
from datamodules.loading.training_plan import make_training_plan
from datamodules.sampling.batch_sampler import EvaluationRequests, ResumePoint, TrainRequests
from datamodules.sampling.epoch_plan import TrainPlan
from lightning_modules import CNNLSTM
from tests.datamodules.loading.test_planned_loader import module, same

RANKS = (1, 2, 3, 5, 8)


def loaders_of_ranks(data, make_requests, ranks, workers):
    """What each rank's data module would build, in one process: only the requests know the rank."""
    options = data.options.worker_arguments() | {"persistent_workers": False} if workers else {"num_workers": 0}
    reader = data.test_dataloader()._loader.dataset
    return [PlannedLoader(reader, make_requests(rank, ranks), **options) for rank in range(ranks)]


@settings(max_examples=15)
@given(
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 5),
    other_world_size=st.integers(1, 5),
    epoch=st.integers(0, 3),
    stop=st.integers(0, 9),
    shuffle=st.sampled_from(["global", "shards", "none"]),
)
def test_a_stopped_epoch_of_any_dataset_reads_what_is_left_as_the_index_has_it(
    any_dataset, batch_size, world_size, other_world_size, epoch, stop, shuffle
):
    """Whole videos, overlapping segments, videos without labels: each at most once, with its own label."""
    data = module(any_dataset, num_frames=2, num_clips=1, test_split="train", shuffle=shuffle)
    rows = data.index.rows("train")
    before, after = (
        make_training_plan(data.index, rows, data.options, batch_size, ranks)
        for ranks in (world_size, other_world_size)
    )
    stop = min(stop, before.num_steps())
    ranks = [list(before.batches(epoch, rank))[:stop] for rank in range(world_size)]
    done = [int(sample) for batches in ranks for batch in batches for sample in batch]
    point = ResumePoint(epoch, before.consumed_after(stop), stop)
    assert len(done) == len(set(done))
    loaders = loaders_of_ranks(data, lambda rank, _: TrainRequests(after, rank, point), other_world_size, 0)
    batches = [list(loader) for loader in loaders]
    assert len({len(of_rank) for of_rank in batches}) == 1
    read = [row for of_rank in batches for batch in of_rank for row in batch.rows.tolist()]
    left = set(rows.tolist()) - set(rows[done].tolist())
    assert len(read) == len(set(read))
    assert set(read) <= left
    assert stop == before.num_steps() or len(left) - len(read) < other_world_size
    for batch in (batch for of_rank in batches for batch in of_rank):
        entries = [data.index.entry(row) for row in batch.rows.tolist()]
        assert batch.keys == [entry.key for entry in entries]
        assert batch.labels.tolist() == [entry.label for entry in entries]
        durations = torch.tensor([entry.duration_s for entry in entries])[batch.video_index]
        assert (batch.clip_times[:, 1] <= durations + 1e-6).all()


@settings(max_examples=4)
@given(batch_size=st.integers(1, 9), ranks=st.integers(1, 6))
def test_evaluation_of_any_dataset_on_any_ranks_is_that_of_one(any_dataset, batch_size, ranks):
    """Each video once, with its label and the scores of the network; so what counts hits over ranks is exact too."""
    data = module(any_dataset, num_clips=1, num_frames=2)
    rows, network = data.index.rows("test"), CNNLSTM(num_classes=3, channels=[4], hidden_size=4).eval()

    def evaluated(batch_size, ranks):
        make = lambda rank, world: EvaluationRequests(len(rows), batch_size, rank, world)  # noqa: E731
        batches = [batch for loader in loaders_of_ranks(data, make, ranks, 0) for batch in loader]
        order = torch.cat([batch.rows for batch in batches]).argsort()
        with torch.no_grad():
            scores = torch.cat([network.video_scores(batch) for batch in batches])[order]
        read, labels = (torch.cat([getattr(batch, name) for batch in batches])[order] for name in ("rows", "labels"))
        return read, labels, scores

    read, labels, scores = evaluated(batch_size, ranks)
    assert read.tolist() == rows.tolist()
    assert labels.tolist() == [data.index.entry(row).label for row in rows.tolist()]
    torch.testing.assert_close(scores, evaluated(len(rows), 1)[2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("ranks", "workers"), [(ranks, 0) for ranks in (*RANKS, 20)] + [(3, 1), (5, 2), (2, 4)])
def test_evaluation_reads_every_video_once_in_equal_steps(motion_dataset, ranks, workers):
    """16 test videos; 20 ranks are more than there are videos."""
    data = module(motion_dataset, num_clips=1, num_workers=workers, worker_start="fork")
    make = lambda rank, world: EvaluationRequests(16, 3, rank, world)  # noqa: E731
    batches = [list(loader) for loader in loaders_of_ranks(data, make, ranks, workers)]
    keys = [key for batches_of_rank in batches for batch in batches_of_rank for key in batch.keys]
    assert len(keys) == len(set(keys)) == 16
    assert len({len(batches_of_rank) for batches_of_rank in batches}) == 1


@pytest.mark.parametrize("shuffle", ["global", "shards"])
@pytest.mark.parametrize(("ranks", "workers"), [(1, 2), (3, 0), (2, 1)])
def test_a_resumed_epoch_reads_the_rest_whatever_the_layout(motion_dataset, shuffle, ranks, workers):
    """Stopped after 4 steps of 2 ranks x 3 videos; taken up by other ranks, workers and another batch size."""
    data = module(motion_dataset, test_split="train", num_workers=workers, worker_start="fork")
    rows = data.index.rows("train")
    sizes = data.index.shard_sizes(rows) if shuffle == "shards" else ()

    def requests(rank, world, batch_size, resume):
        return TrainRequests(TrainPlan(len(rows), batch_size, world, 0, shuffle, sizes, 1), rank, resume)

    first = [list(requests(rank, 2, 3, ResumePoint(1)))[:4] for rank in range(2)]
    consumed = {int(sample) for steps in first for request in steps for sample in request.samples}
    point = requests(0, 2, 3, ResumePoint(1)).point_after(4)
    assert point.consumed == len(consumed) == 24
    loaders = loaders_of_ranks(data, lambda rank, world: requests(rank, world, 2, point), ranks, workers)
    batches = [list(loader) for loader in loaders]
    seen = [key for batches_of_rank in batches for batch in batches_of_rank for key in batch.keys]
    left = {data.index.entry(int(rows[sample])).key for sample in range(len(rows)) if sample not in consumed}
    assert len(seen) == len(set(seen)) == 16 - 16 % ranks  # the last step has the same size on every rank
    assert set(seen) <= left
    assert len({len(batches_of_rank) for batches_of_rank in batches}) == 1


def test_the_same_layout_gives_the_same_batches_after_a_stop(motion_dataset):
    data = module(motion_dataset)
    loader = data.train_dataloader()
    loader.sampler.set_epoch(2)
    whole = list(loader)
    resumed = module(motion_dataset, num_workers=2)
    resumed._progress.resume = loader.sampler.point_after(5)
    assert resumed._progress.resume == ResumePoint(2, 15, 5)
    assert same(list(resumed.train_dataloader()), whole[5:])
