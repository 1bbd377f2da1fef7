"""Metrics against numbers checked by hand."""

import pytest
import torch

from lightning_modules.tasks.metrics import (
    MeanClassAccuracy,
    TopKAccuracy,
    classification_metrics,
    frame_metrics,
    multi_label_metrics,
)


def one_hot(classes, num_classes=3):
    return torch.nn.functional.one_hot(torch.tensor(classes), num_classes).float()


def test_mean_class_accuracy_by_hand():
    metric = MeanClassAccuracy(3)
    # Class 0: 3 of 4 right. Class 1: 0 of 1. Class 2 has no video, though one is taken for it.
    metric.update(one_hot([0, 0, 0, 2, 0]), torch.tensor([0, 0, 0, 0, 1]))
    assert metric.compute().item() == 0.375


def test_mean_class_accuracy_of_parts_is_that_of_the_whole():
    scores, labels = torch.rand(50, 3), torch.randint(3, (50,))
    whole, parts = MeanClassAccuracy(3), MeanClassAccuracy(3)
    whole.update(scores, labels)
    for start in range(0, 50, 7):
        parts.update(scores[start : start + 7], labels[start : start + 7])
    torch.testing.assert_close(whole.compute(), parts.compute())


@pytest.mark.parametrize("make", [classification_metrics, multi_label_metrics, frame_metrics])
def test_metrics_of_ranks_of_unequal_size_are_those_of_all_their_videos(make):
    """Merged by the reductions of their states, as torchmetrics does it over processes."""
    draw = torch.Generator().manual_seed(0)
    scores, labels = torch.rand(12, 6, generator=draw), torch.randint(6, (12,), generator=draw)
    if make is multi_label_metrics:
        labels = torch.randint(2, (12, 6), generator=draw)
    whole, *ranks = (make(6, "val") for _ in range(3))
    whole.update(scores, labels)
    for name, metric in whole.items():
        first, second = (rank[name.removeprefix("val/")] for rank in ranks)
        first.update(scores[:9], labels[:9])
        second.update(scores[9:], labels[9:])
        first.merge_state(second)
        torch.testing.assert_close(first.compute(), metric.compute())


def test_nothing_seen_gives_zero():
    assert MeanClassAccuracy(3).compute().item() == 0


def test_top1_counts_videos_and_top5_the_five_best():
    """Of six classes: the labels come first, fifth, sixth and first; class 0 has three videos, class 1 has one."""
    ranks = torch.tensor([[9, 8, 7, 6, 5, 4], [5, 9, 8, 7, 6, 4], [4, 9, 8, 7, 6, 5], [8, 9, 7, 6, 5, 4]])
    metrics = classification_metrics(6, "test")
    metrics.update(ranks.float().softmax(1), torch.tensor([0, 0, 0, 1]))
    found = {name: value.item() for name, value in metrics.compute().items()}
    assert found["test/top1"] == 0.5
    assert found["test/top5"] == 0.75
    assert found["test/mean_class_accuracy"] == pytest.approx(2 / 3)


def test_frames_without_a_label_count_in_no_metric_of_frames():
    """Of three labelled frames class 0 ranks second; class 1 first and third. The last frame would come before them."""
    metrics = frame_metrics(2, "val")
    scores = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.8, 0.2]])
    metrics.update(scores[:2], torch.tensor([1, 0]))
    metrics.update(scores[2:], torch.tensor([1, -1]))
    assert {name: value.item() for name, value in metrics.compute().items()} == {
        "val/mean_average_precision": pytest.approx((1 / 2 + (1 + 2 / 3) / 2) / 2),
        "val/top1": pytest.approx(2 / 3),
        "val/top5": 1.0,
        "val/mean_class_accuracy": 0.75,
    }


def test_names_and_fewer_than_five_classes():
    metrics = classification_metrics(3, "val")
    metrics.update(one_hot([0, 1, 1, 2]), torch.tensor([0, 1, 2, 1]))
    assert {name: value.item() for name, value in metrics.compute().items()} == {
        "val/top1": 0.5,
        "val/top5": 1.0,
        "val/mean_class_accuracy": 0.5,
    }


def test_the_first_of_equal_scores_wins_and_a_score_that_is_no_number_loses():
    """Of six classes, of which one is the video's: 2 of 4, 4 and 0 of equal scores, and two networks that diverged."""
    metric = TopKAccuracy(6)
    nan = float("nan")
    scores = torch.tensor([[1.0] * 6, [0.0, 9, 9, 0, 0, 0], [0.0, 9, 9, 0, 0, 0], [nan, 9, 0, 0, 0, 0], [nan] * 6])
    metric.update(scores, torch.tensor([5, 1, 2, 1, 0]))
    assert metric.total.tolist() == [1, 2, 1, 0, 0, 1]
    assert metric.hits.tolist() == [0, 1, 0, 0, 0, 0]
    assert metric.near_hits.item() == 3  # not the last of six equal ones, nor the one among six that are no numbers
