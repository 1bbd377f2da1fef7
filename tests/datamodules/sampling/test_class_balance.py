"""Class-balanced epochs: numbers checked by hand, then properties over class sizes, epochs and layouts."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.sampling.class_balance import BalancedEpoch, make_strata
from datamodules.sampling.epoch_plan import TrainPlan
from datamodules.sampling.keyed_permutation import KeyedPermutation, permute_each


def strata_of(sizes, rule="balanced"):
    """Strata of videos with one class each, of the given sizes, mixed as in a split."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    return make_strata(rule, labels, np.ones(len(labels), dtype=np.int64), len(sizes)), labels


def draws_of(strata, seed, epoch):
    return BalancedEpoch(strata, seed, epoch)(np.arange(len(strata.samples)))


def test_the_example_of_the_docstring():
    strata, labels = strata_of([6, 2])
    drawn = [draws_of(strata, 0, epoch) for epoch in range(3)]
    for samples, passes in drawn:
        assert np.bincount(labels[samples]).tolist() == [4, 4]
        of_the_rare = passes[labels[samples] == 1]
        assert sorted(of_the_rare.tolist()) == [0, 0, 1, 1]
    whole = np.bincount(np.concatenate([draws.samples for draws in drawn]))
    assert whole[labels == 0].tolist() == [2] * 6  # two passes in three epochs
    assert whole[labels == 1].tolist() == [6, 6]


def test_every_pass_over_a_class_has_an_order_of_its_own():
    """Of 12 videos 8 are drawn an epoch: epochs 0, 3, 6 and 9 begin passes 0, 2, 4 and 6, and draw others each time."""
    strata, labels = strata_of([12, 4])

    def frequent(seed, epoch):
        samples = draws_of(strata, seed, epoch).samples
        return frozenset(samples[labels[samples] == 0].tolist())

    drawn = [frequent(0, epoch) for epoch in (0, 3, 6, 9)]
    assert {len(one) for one in drawn} == {8}
    assert len({*drawn, frequent(1, 0)}) == 5  # the seed counts too
    orders = {tuple(labels[draws_of(strata, 0, epoch).samples]) for epoch in range(4)}
    assert len(orders) == 4  # nor do the classes follow each other alike
    assert len({tuple(labels[draws_of(strata, seed, 0).samples]) for seed in range(4)}) == 4


def test_shares_are_those_of_the_rule():
    balanced, _ = strata_of([16, 4, 0, 1])
    assert balanced.classes.tolist() == [0, 1, 3]
    assert balanced.shares.tolist() == pytest.approx([7, 7, 7])
    root, _ = strata_of([16, 4, 0, 1], "sqrt")
    assert root.shares.tolist() == pytest.approx([12, 6, 3])  # 21 videos as 4 : 2 : 1
    assert strata_of([2, 8])[0].shares.tolist() == pytest.approx([5, 5])  # the first class may be the rare one
    unlabelled = make_strata("balanced", np.array([0, 1]), np.array([1, 1, 0]), 2)
    assert unlabelled.shares.tolist() == pytest.approx([1, 1, 1])


def test_videos_of_several_classes_have_the_repeat_factor_of_their_rarest_class():
    """Against the image-level repeat factors of Gupta et al. 2019, as detectron2 computes them."""
    videos = [[0], [0, 1], [0, 1], [0], [0, 2], [], [0], [1], [0], [0]]
    counts = np.array([len(classes) for classes in videos])
    flat = np.array([label for classes in videos for label in classes])
    frequencies = np.bincount(flat) / len(videos)
    for rule, power in (("sqrt", 0.5), ("balanced", 1.0)):
        repeat = np.maximum(1, (frequencies.max() / frequencies) ** power)
        factors = np.array([max((repeat[label] for label in classes), default=1.0) for classes in videos])
        strata = make_strata(rule, flat, counts, 3)
        assert strata.classes.tolist() == [-1, 0, 1, 2]
        assert strata.sizes.tolist() == [1, 5, 3, 1]
        assert strata.draws_per_video().tolist() == pytest.approx((10 * factors / factors.sum()).tolist())


def test_of_equally_rare_classes_the_first_counts_and_videos_stay_in_their_order():
    """20 classes of 10 videos and 20 of 20; each video has two classes of one size."""
    first = np.random.default_rng(0).permutation(np.repeat(np.arange(40), [5, 10] * 20))
    both = np.stack([first, (first + 8) % 40], axis=1)
    strata = make_strata("balanced", both.ravel(), np.full(300, 2), 40)
    rarest = both.min(axis=1)
    assert strata.classes.tolist() == sorted(set(rarest.tolist()))
    expected = [video for label in strata.classes for video in range(300) if rarest[video] == label]
    assert strata.samples.tolist() == expected


def test_equal_classes_are_drawn_once_in_every_epoch():
    strata, _ = strata_of([5, 5, 5])
    for epoch in range(4):
        samples, passes = draws_of(strata, 1, epoch)
        assert sorted(samples.tolist()) == list(range(15))
        assert not passes.any()


@given(sizes=st.lists(st.integers(1, 70), min_size=1, max_size=6), key=st.integers(0, 9), passes=st.integers(0, 99))
def test_several_permutations_at_once_are_those_one_by_one(sizes, key, passes):
    places = np.concatenate([np.arange(size) for size in sizes])
    each, number = (np.repeat(values, sizes) for values in (sizes, range(len(sizes))))
    found = permute_each(places, each, key, number, np.full(len(places), passes))
    expected = [KeyedPermutation(size, key, n, passes)(np.arange(size)) for n, size in enumerate(sizes)]
    assert found.tolist() == np.concatenate(expected).tolist()
    with pytest.raises(IndexError):
        permute_each(np.array([3]), np.array([3]), key)


kinds = {
    "sizes": st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any),
    "rule": st.sampled_from(["sqrt", "balanced"]),
    "seed": st.integers(0, 5),
    "epoch": st.integers(0, 600),
}


@given(**kinds)
def test_an_epoch_draws_every_class_as_often_as_its_share_rounded(sizes, rule, seed, epoch):
    strata, labels = strata_of(sizes, rule)
    samples, passes = draws_of(strata, seed, epoch)
    drawn = np.bincount(labels[samples], minlength=len(sizes))[strata.classes]
    assert (np.abs(drawn - strata.shares) < 1 + 1 / 256).all()
    assert len(samples) == len(labels)
    assert len(set(zip(samples.tolist(), passes.tolist(), strict=True))) == len(samples)  # a video once in a pass
    alone = [BalancedEpoch(strata, seed, epoch)(np.array([place])).samples[0] for place in (0, len(samples) - 1)]
    assert alone == [samples[0], samples[-1]]  # a look-up does not depend on others


@given(sizes=kinds["sizes"], rule=kinds["rule"], seed=kinds["seed"], epochs=st.integers(1, 12))
def test_videos_of_a_class_are_drawn_equally_often_over_epochs(sizes, rule, seed, epochs):
    strata, labels = strata_of(sizes, rule)
    drawn = np.concatenate([draws_of(strata, seed, epoch).samples for epoch in range(epochs)])
    counts = np.bincount(drawn, minlength=len(labels))
    for label in strata.classes:
        assert np.ptp(counts[labels == label]) <= 1


@pytest.mark.parametrize("sizes", [[7, 6, 5, 4], [50, 3, 1]])
@pytest.mark.parametrize("rule", ["sqrt", "balanced"])
def test_what_was_drawn_before_an_epoch_is_known_without_the_epochs_before(sizes, rule):
    strata, _ = strata_of(sizes, rule)
    total = np.zeros(len(sizes), dtype=np.int64)
    for epoch in range(520):
        one = BalancedEpoch(strata, 0, epoch)
        assert one._drawn.tolist() == total.tolist()
        total += one.draws_per_stratum
        assert np.abs(total - (epoch + 1) * strata.shares).max() < 4
    assert total.sum() == 520 * sum(sizes)


layouts = kinds | {"batch_size": st.integers(1, 9), "world_size": st.integers(1, 9)}


def batches_of(plan, epoch, consumed=0):
    """The batches of every rank, as lists of (sample, pass)."""
    return [
        [
            list(zip(samples.tolist(), passes.tolist(), strict=True))
            for samples, passes in plan.draws(epoch, rank, consumed)
        ]
        for rank in range(plan.world_size)
    ]


@settings(max_examples=40)
@given(**layouts)
def test_ranks_take_equal_steps_and_no_draw_twice(sizes, rule, seed, epoch, batch_size, world_size):
    strata, labels = strata_of(sizes, rule)
    if len(labels) < world_size:
        return
    plan = TrainPlan(len(labels), batch_size, world_size, seed, strata=strata)
    ranks = batches_of(plan, epoch)
    for step in zip(*ranks, strict=True):
        assert len({len(batch) for batch in step}) == 1
    assert len(ranks[0]) == plan.num_steps()
    taken = Counter(draw for batches in ranks for batch in batches for draw in batch)
    whole = Counter(zip(*(values.tolist() for values in draws_of(strata, seed, epoch)), strict=True))
    assert taken <= whole
    assert whole.total() - taken.total() < world_size
    assert [batch.tolist() for batch in plan.batches(epoch, 0)] == [[one for one, _ in batch] for batch in ranks[0]]


@settings(max_examples=40)
@given(**layouts, stop=st.integers(0, 30), other_world_size=st.integers(1, 9))
def test_resuming_takes_the_draws_that_are_left(
    sizes, rule, seed, epoch, batch_size, world_size, stop, other_world_size
):
    strata, labels = strata_of(sizes, rule)
    if len(labels) < max(world_size, other_world_size):
        return
    before, after = (
        TrainPlan(len(labels), batch_size, ranks, seed, strata=strata) for ranks in (world_size, other_world_size)
    )
    stop = min(stop, before.num_steps())
    whole = batches_of(before, epoch)
    done = {draw for batches in whole for batch in batches[:stop] for draw in batch}
    rest = batches_of(after, epoch, before.consumed_after(stop))
    taken = [draw for batches in rest for batch in batches for draw in batch]
    assert len(taken) == len(set(taken))
    assert not done & set(taken)
    if stop < before.num_steps():
        assert len(labels) - len(done) - len(taken) < other_world_size
    if other_world_size == world_size:
        assert rest == [batches[stop:] for batches in whole]


def test_other_videos_or_orders_are_refused():
    strata, _ = strata_of([3, 1])
    with pytest.raises(ValueError, match="strata have 4 videos, but num_samples=5"):
        TrainPlan(5, 1, strata=strata)
    with pytest.raises(ValueError, match="shuffle='none'"):
        TrainPlan(4, 1, shuffle="none", strata=strata)
