"""Average precision: by hand, against scikit-learn for any scores, and exact over ranks of uneven numbers of videos."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from lightning_modules.tasks.average_precision import class_average_precision, mean_average_precision
from lightning_modules.tasks.metrics import MeanAveragePrecision, MeanClassAccuracy, TopOneHit, multi_label_metrics


def expected(scores: np.ndarray, labels: np.ndarray) -> float:
    """The mean of scikit-learn's average precisions over the classes that have a positive."""
    found = [average_precision_score(labels[:, k], scores[:, k]) for k in range(labels.shape[1]) if labels[:, k].any()]
    return float(np.mean(found)) if found else 0.0


def test_by_hand():
    """Positives at ranks 1 and 3: (1/1 + 2/3) / 2. Of two equal scores both have rank 2: (1/2) / 1."""
    scores = torch.tensor([[0.9, 0.5, 0.1], [0.8, 0.7, 0.2], [0.7, 0.7, 0.3]])
    labels = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0]])
    found = class_average_precision(scores, labels)
    assert found[:2].tolist() == [pytest.approx(5 / 6), 0.5]
    assert found[2].isnan()
    assert mean_average_precision(scores, labels).item() == pytest.approx(4 / 6)
    assert mean_average_precision(scores, labels * 0).item() == 0
    assert mean_average_precision(scores[:0], labels[:0]).item() == 0


def test_scores_that_hardly_differ_are_ranked():
    metric = MeanAveragePrecision(1)
    metric.update(torch.tensor([[0.900001], [0.9]]), torch.tensor([[1], [0]]))
    assert metric.compute().item() == 1


videos = st.lists(
    st.tuples(st.lists(st.integers(0, 6), min_size=3, max_size=3), st.lists(st.booleans(), min_size=3, max_size=3)),
    min_size=1,
    max_size=40,
)


@given(videos, st.integers(1, 9))
def test_any_scores_in_any_batches_give_what_scikit_learn_gives(rows, batch_size):
    """Few different scores, so that many are equal; batches of any size, and one without videos."""
    scores = torch.tensor([row for row, _ in rows]).float() / 7
    labels = torch.tensor([row for _, row in rows]).to(torch.uint8)
    metrics = multi_label_metrics(3, "val")
    for start in range(0, len(scores) + batch_size, batch_size):
        metrics.update(scores[start : start + batch_size], labels[start : start + batch_size])
    found = metrics.compute()
    assert found["val/mean_average_precision"].item() == pytest.approx(
        expected(scores.numpy(), labels.numpy()), abs=1e-6
    )
    hits = [label[score.argmax()] for score, label in zip(scores, labels, strict=True) if label.any()]
    assert found["val/top1_hit"].item() == pytest.approx(np.mean(hits) if hits else 0)


def rank_videos(number: int, total: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    return torch.randint(0, 9, (total, 5), generator=generator) / 9, torch.randint(
        0, 2, (total, 5), generator=generator
    )


COUNTS = ((7, 0), (5, 12))  # videos of each of two ranks, in two evaluations


def one_rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", f"file://{folder}/ranks", rank=rank, world_size=2)
    found = []
    for counts in COUNTS:
        precision, hit, by_class = MeanAveragePrecision(5), TopOneHit(), MeanClassAccuracy(5)
        if counts[rank]:
            scores, labels = rank_videos(rank, counts[rank])
            for part in (slice(0, 5), slice(5, None)):
                precision.update(scores[part], labels[part])
                hit.update(scores[part], labels[part])
                by_class.update(scores[part], labels[part].argmax(1))
        found += [precision.compute(), hit.compute(), by_class.compute()]
    torch.save(found, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore:The ``compute`` method", "ignore:y_pred contains classes not in y_true")
def test_ranks_with_uneven_numbers_of_videos_agree_with_one_process(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(one_rank, (str(tmp_path),), 2)
    whole = []
    for counts in COUNTS:
        ranks = [rank_videos(*one) for one in enumerate(counts)]
        scores, labels = (torch.cat(parts) for parts in zip(*ranks, strict=True))
        whole.append(expected(scores.numpy(), labels.numpy()))
        whole.append(labels.gather(1, scores.argmax(1, keepdim=True))[labels.any(1)].double().mean().item())
        whole.append(balanced_accuracy_score(labels.argmax(1), scores.argmax(1)))
    for rank in range(2):
        assert [one.item() for one in torch.load(tmp_path / f"{rank}.pt")] == pytest.approx(whole, abs=1e-6)
