"""The plan: numbers checked by hand, then properties over all layouts."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.sampling.epoch_plan import EvaluationBatches, ShardPermutation, TrainPlan
from datamodules.sampling.keyed_permutation import KeyedPermutation, hash_integers


def as_lists(batches):
    return [batch.tolist() for batch in batches]


def test_batches_in_order_are_those_of_the_docstring():
    plan = TrainPlan(num_samples=10, batch_size=2, world_size=2, shuffle="none")
    assert as_lists(plan.batches(epoch=0, rank=0)) == [[0, 1], [4, 5], [8]]
    assert as_lists(plan.batches(epoch=0, rank=1)) == [[2, 3], [6, 7], [9]]


@pytest.mark.parametrize("settings", [{}, {"shuffle": "shards", "shard_sizes": (20, 10, 20), "shard_window": 2}])
def test_the_order_depends_on_seed_and_epoch(settings):
    def order(seed, epoch):
        plan = TrainPlan(num_samples=50, batch_size=10, seed=seed, **settings)
        return np.concatenate(list(plan.batches(epoch, rank=0))).tolist()

    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert all(sorted(one) == list(range(50)) for one in orders)
    assert len(set(map(tuple, orders))) == 9
    assert order(2, 1) == orders[7]


def test_every_window_of_shards_has_an_order_of_its_own():
    numbers = ShardPermutation((9,) * 6, 1, 0)(np.arange(54)).reshape(6, 9)
    assert len({tuple(one - one.min()) for one in numbers}) == 6


def test_shards_are_read_in_an_order_of_each_epoch_s_own():
    """Shards of one video each, of which none is shuffled with another."""
    orders = [ShardPermutation((1,) * 6, 1, 0, epoch)(np.arange(6)).tolist() for epoch in range(4)]
    assert len(set(map(tuple, orders))) == 4
    assert all(sorted(order) == list(range(6)) for order in orders)


def test_an_epoch_consumes_no_more_than_there_is():
    plan = TrainPlan(num_samples=10, batch_size=2, world_size=2)
    assert [plan.consumed_after(steps) for steps in range(4)] == [0, 4, 8, 10]
    assert plan.consumed_after(2, consumed=4) == 10


def test_evaluation_leaves_out_what_is_done_and_no_rank_without_videos():
    done = np.array([True, False, False, True, True, True, False])
    assert as_lists(EvaluationBatches(7, 2, done=done)) == [[1], [2], [6]]  # the batches are those of all videos
    assert [as_lists(EvaluationBatches(7, 2, rank, 2, done)) for rank in (0, 1)] == [[[1], []], [[2], [6]]]
    assert [as_lists(EvaluationBatches(4, 8, rank, 2)) for rank in (0, 1)] == [[[0, 1]], [[2, 3]]]
    assert as_lists(EvaluationBatches(0, 8)) == [[]]


def test_drop_last_leaves_the_tail_out():
    plan = TrainPlan(num_samples=10, batch_size=2, world_size=2, shuffle="none", drop_last=True)
    assert as_lists(plan.batches(epoch=0, rank=1)) == [[2, 3], [6, 7]]


def test_resuming_with_other_ranks_takes_what_is_left():
    two = TrainPlan(num_samples=12, batch_size=2, world_size=2, shuffle="none")
    three = TrainPlan(num_samples=12, batch_size=1, world_size=3, shuffle="none")
    consumed = two.consumed_after(steps=1)
    assert consumed == 4
    assert as_lists(three.batches(0, rank=2, consumed=consumed)) == [[6], [9]]


def test_too_few_videos_say_what_to_change():
    with pytest.raises(ValueError, match="1 training videos are too few for one step of 2: use fewer ranks"):
        TrainPlan(num_samples=1, batch_size=4, world_size=2)


@given(size=st.integers(0, 3000), key=st.integers(0, 2**40))
def test_keyed_permutation_is_a_permutation(size, key):
    numbers = KeyedPermutation(size, key)(np.arange(size))
    assert sorted(numbers.tolist()) == list(range(size))


def test_hashes_are_the_published_numbers_of_splitmix64():
    """The first three of seed 0: the finalizer of the golden ratio's multiples."""
    found = [int(hash_integers(0x9E3779B97F4A7C15 * number - 1)[0]) for number in (1, 2, 3)]
    assert found == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_orders_stay_those_that_runs_were_begun_with():
    """A run that is resumed by a later version goes on in its order: written down once."""
    assert KeyedPermutation(10, 1, 2)(np.arange(10)).tolist() == [5, 4, 2, 9, 6, 1, 7, 8, 3, 0]
    shards = ShardPermutation((3, 4, 2, 3), 2, 1, 2)
    assert shards(np.arange(12)).tolist() == [2, 1, 0, 8, 7, 6, 9, 3, 5, 10, 4, 11]
    for position in (-1, 10):
        with pytest.raises(IndexError, match=r"positions must be in \[0, 10\)"):
            KeyedPermutation(10, 1, 2)(np.array([position]))


def test_keyed_permutation_of_a_huge_range_needs_no_array():
    size = 10**15
    permutation = KeyedPermutation(size, 7)
    some = permutation(np.array([0, 1, size - 1]))
    assert len(set(some.tolist())) == 3
    assert (some >= 0).all()
    assert (some < size).all()


def test_every_number_comes_to_every_place_about_equally_often():
    counts = np.zeros((5, 5))
    for key in range(5000):
        counts[np.arange(5), KeyedPermutation(5, key)(np.arange(5))] += 1
    # 5000 draws of probability 1/5: standard deviation 28; six of them.
    assert np.abs(counts - 1000).max() < 170


def test_neighbors_of_an_epoch_are_not_neighbors_of_the_next():
    first, second = (KeyedPermutation(1000, 0, epoch)(np.arange(1000)) for epoch in (0, 1))
    assert np.mean(first == second) < 0.02
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.15


@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=12), window=st.integers(1, 5), key=st.integers(0, 99))
def test_shard_permutation_keeps_windows_together(sizes, window, key):
    numbers = ShardPermutation(sizes, window, key)(np.arange(sum(sizes)))
    assert sorted(numbers.tolist()) == list(range(sum(sizes)))
    shard_of = np.repeat(np.arange(len(sizes)), sizes)[numbers]
    # Read through the epoch: at most `window` shards are open at any place, and a closed one stays closed.
    first = {shard: int(np.flatnonzero(shard_of == shard)[0]) for shard in range(len(sizes))}
    last = {shard: int(np.flatnonzero(shard_of == shard)[-1]) for shard in range(len(sizes))}
    for place in range(len(numbers)):
        assert sum(first[shard] <= place <= last[shard] for shard in first) <= window


layouts = {
    "num_samples": st.integers(1, 200),
    "batch_size": st.integers(1, 9),
    "world_size": st.integers(1, 9),
    "seed": st.integers(0, 5),
    "epoch": st.integers(0, 3),
    "shuffle": st.sampled_from(["global", "shards", "none"]),
}


@given(**layouts)
def test_training_takes_equal_steps_and_no_video_twice(num_samples, batch_size, world_size, seed, epoch, shuffle):
    if num_samples < world_size:
        return
    plan = TrainPlan(num_samples, batch_size, world_size, seed, shuffle, shard_sizes=(num_samples,))
    ranks = [as_lists(plan.batches(epoch, rank)) for rank in range(world_size)]
    for step in zip(*ranks, strict=True):
        assert len({len(batch) for batch in step}) == 1
    seen = Counter(sample for batches in ranks for batch in batches for sample in batch)
    assert set(seen.values()) <= {1}
    assert num_samples - len(seen) < world_size
    assert len(ranks[0]) == plan.num_steps()


@given(**layouts, stop=st.integers(0, 30), other_world_size=st.integers(1, 9))
def test_resuming_sees_the_remaining_videos_whatever_the_layout(
    num_samples, batch_size, world_size, seed, epoch, shuffle, stop, other_world_size
):
    if num_samples < max(world_size, other_world_size):
        return
    before = TrainPlan(num_samples, batch_size, world_size, seed, shuffle, shard_sizes=(num_samples,))
    after = TrainPlan(num_samples, batch_size, other_world_size, seed, shuffle, shard_sizes=(num_samples,))
    stop = min(stop, before.num_steps())
    whole = [as_lists(before.batches(epoch, rank)) for rank in range(world_size)]
    done = {sample for batches in whole for batch in batches[:stop] for sample in batch}
    consumed = before.consumed_after(stop)
    rest = [as_lists(after.batches(epoch, rank, consumed)) for rank in range(other_world_size)]
    seen = [sample for batches in rest for batch in batches for sample in batch]
    assert len(seen) == len(set(seen))
    assert not done & set(seen)
    if stop < before.num_steps():  # the tail's smaller step ends the epoch, whoever took it
        assert num_samples - len(done) - len(seen) < other_world_size
    if other_world_size == world_size:
        assert rest == [batches[stop:] for batches in whole]


@given(num_samples=st.integers(0, 100), batch_size=st.integers(1, 9), world_size=st.integers(1, 9))
def test_evaluation_sees_every_video_exactly_once_in_equal_steps(num_samples, batch_size, world_size):
    ranks = [EvaluationBatches(num_samples, batch_size, rank, world_size) for rank in range(world_size)]
    assert len({len(batches) for batches in ranks}) == 1
    assert len(ranks[0]) >= 1
    assert all(len(batch) <= batch_size for batches in ranks for batch in batches)
    seen = sorted(int(sample) for batches in ranks for batch in batches for sample in batch)
    assert seen == list(range(num_samples))


@given(num_samples=st.integers(0, 60), batch_size=st.integers(1, 9), ranks=st.integers(1, 5), data=st.data())
def test_an_evaluation_that_was_stopped_has_the_batches_that_are_left(num_samples, batch_size, ranks, data):
    def batches_of(done):
        each = [EvaluationBatches(num_samples, batch_size, rank, ranks, done) for rank in range(ranks)]
        assert len({len(batches) for batches in each}) == 1
        return [batch.tolist() for batches in each for batch in batches if len(batch)]

    whole = batches_of(None)
    finished = data.draw(st.lists(st.booleans(), min_size=len(whole), max_size=len(whole)))
    done = np.zeros(num_samples, dtype=bool)
    for batch, is_done in zip(whole, finished, strict=True):
        done[batch] = is_done
    assert batches_of(done) == [batch for batch, is_done in zip(whole, finished, strict=True) if not is_done]
    if num_samples >= batch_size * ranks:
        alone = EvaluationBatches(num_samples, batch_size)
        assert whole == [batch.tolist() for batch in alone]
