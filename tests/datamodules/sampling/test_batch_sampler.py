"""Requests to workers: what keys their augmentation, how many there are after a resumption, and what is read ahead."""

import numpy as np
import pytest

from datamodules.sampling.batch_sampler import (
    EvaluationRequests,
    Request,
    RequestPrefetcher,
    ResumePoint,
    TrainRequests,
)
from datamodules.sampling.class_balance import make_strata
from datamodules.sampling.epoch_plan import TrainPlan


def test_augmentation_is_keyed_by_seed_epoch_sample_and_by_the_pass_unless_it_is_the_first():
    assert Request(np.array([7, 9]), 3).augmentation_keys(5) == [[5, 3, 7], [5, 3, 9]]
    repeated = Request(np.array([7, 7]), 3, passes=np.array([0, 2]))
    assert repeated.augmentation_keys(5) == [[5, 3, 7], [5, 3, 7, 2]]


def plan(**settings):
    return TrainPlan(num_samples=22, batch_size=4, world_size=2, shuffle="none", **settings)


def test_a_resumed_epoch_has_the_steps_that_are_left_and_the_length_of_the_whole():
    whole, resumed = (TrainRequests(plan(), 1, point) for point in (ResumePoint(2), ResumePoint(2, 8, 1)))
    batches = [request.samples.tolist() for request in whole]
    assert batches == [[4, 5, 6, 7], [12, 13, 14, 15], [19, 20, 21]]
    assert [request.samples.tolist() for request in resumed] == batches[1:]
    assert {request.epoch for request in resumed} == {2}
    assert len(whole) == len(resumed) == 3
    assert resumed.point_after(2) == whole.point_after(2) == ResumePoint(2, 16, 2)
    resumed.set_epoch(3)  # which begins at its beginning
    assert [request.samples.tolist() for request in resumed] == batches
    assert (len(resumed), resumed.point_after(1)) == (3, ResumePoint(3, 8, 1))


def test_passes_are_told_where_videos_come_again():
    labels = np.array([0] * 20 + [1] * 2)
    strata = make_strata("balanced", labels, np.ones(22, dtype=np.int64), 2)
    balanced = TrainPlan(num_samples=22, batch_size=22, strata=strata)
    [request] = TrainRequests(balanced, 0, ResumePoint())
    assert len(set(map(tuple, request.augmentation_keys(0)))) == 22
    assert all(len(other.passes) == 0 for other in TrainRequests(plan(), 0, ResumePoint()))


@pytest.mark.parametrize(("start", "expected"), [(0, [0, 1, 2, 3, 4]), (2, [2, 3, 4])])
def test_a_request_tells_the_videos_of_the_one_that_goes_to_the_same_worker_next(start, expected):
    requests = RequestPrefetcher(EvaluationRequests(10, 2, 0, 1), distance=2, start=start)
    found = [(request.samples.tolist(), list(request.ahead)) for request in requests]
    pairs = [[2 * number, 2 * number + 1] for number in expected]
    assert found == list(zip(pairs, [*pairs[2:], [], []], strict=True))
    assert len(requests) == len(expected)


def test_evaluation_leaves_out_what_is_done_and_is_of_no_epoch():
    requests = [
        request for rank in range(2) for request in EvaluationRequests(10, 2, rank, 2, done=np.arange(10) % 3 == 0)
    ]
    assert sorted(sample for request in requests for sample in request.samples.tolist()) == [1, 2, 4, 5, 7, 8]
    assert {request.epoch for request in requests} == {0}
