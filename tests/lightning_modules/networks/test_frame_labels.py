"""Networks with a label for each frame: what a label depends on, which frames count, and what is averaged."""

import pytest
import torch

from datamodules.batch import ClipBatch
from lightning_modules import CNNLSTM
from lightning_modules.tasks.label_task import scores_loss
from tests.lightning_modules.clip_batches import moving_bars

SMALL = {"channels": (8, 16), "hidden_size": 12, "readout": "every", "dropout": 0.0}


def make(**kwargs) -> CNNLSTM:
    torch.manual_seed(0)
    return CNNLSTM(**({"num_classes": 3} | SMALL | kwargs))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_causal_network_labels_a_frame_whatever_comes_later(cell: str) -> None:
    model = make(cell=cell, num_layers=2).eval()
    x = torch.randn(2, 3, 10, 32, 32)
    changed = x.clone()
    changed[:, :, 6:] = torch.randn(2, 3, 4, 32, 32)
    before, after = model.clip_logits(x), model.clip_logits(changed)
    assert before.shape == (2, 10, 3)
    torch.testing.assert_close(before[:, :6], after[:, :6], rtol=0, atol=0)
    assert (before[:, 6:] - after[:, 6:]).abs().amax(dim=2).min() > 1e-6
    assert model.is_causal


def test_a_bidirectional_network_reads_what_comes_later() -> None:
    model = make(bidirectional=True).eval()
    x = torch.randn(1, 3, 10, 32, 32)
    changed = x.clone()
    changed[:, :, 9] = 0
    assert (model.clip_logits(x)[:, 0] - model.clip_logits(changed)[:, 0]).abs().max() > 1e-6
    assert not model.is_causal


def with_frame_labels(batch: ClipBatch, labels: torch.Tensor, task: str = "single_label") -> ClipBatch:
    video_labels = batch.labels if task == "single_label" else torch.ones(batch.num_videos, 3, dtype=torch.uint8)
    return batch._replace(frame_labels=labels, labels=video_labels)


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
@pytest.mark.parametrize("class_frequencies", [None, [0.1, 0.3, 0.6]])
def test_frames_without_a_label_do_not_count(task: str, class_frequencies: list[float] | None) -> None:
    """The loss is the mean over the others, and so are the metrics; none at all gives a loss and gradients of 0."""
    weighted = {} if class_frequencies is None else {"class_weights": "balanced"}
    model = make(task=task, class_frequencies=class_frequencies, **weighted).train()
    shape = (2, 16) if task == "single_label" else (2, 16, 3)
    labels = torch.randint(0, 3 if task == "single_label" else 2, shape)
    labels[0, 12:], labels[1, :5] = -1, -1
    batch = with_frame_labels(moving_bars(2), labels, task)
    loss = model.training_step(batch, 0)
    logits = model(batch)
    known = (labels if task == "single_label" else labels[..., 0]) >= 0
    assert known.sum() == 23
    torch.testing.assert_close(
        loss, model.loss(logits[known], labels[known].float() if task == "multi_label" else labels[known])
    )
    model.on_train_batch_end(None, batch, 0)
    found = {name: float(value) for name, value in model.train_metrics.compute().items()}
    if task == "single_label":
        assert found["train/top1"] == pytest.approx(float((logits[known].argmax(1) == labels[known]).float().mean()))
    nothing = with_frame_labels(moving_bars(2), torch.full(shape, -1), task)
    loss = model.training_step(nothing, 0)
    loss.backward()
    assert loss == 0
    assert all(parameter.grad is None or (parameter.grad == 0).all() for parameter in model.parameters())
    model.validation_step(nothing, 0)
    model.validation_step(batch, 0)
    assert model.val_metrics.compute()["val/mean_average_precision"].isfinite()
    judged = [part.flatten(0, 1)[known.flatten()] for part in (model.frame_scores(batch), labels)]
    torch.testing.assert_close(model.val_loss.compute(), scores_loss(*judged, task))


def test_frames_learn_the_label_of_their_video_where_labels_have_no_times() -> None:
    """As LRCN: each frame its loss, and the scores of a video the mean over its frames, then over its clips."""
    model = make(num_classes=2).eval()
    batch = moving_bars(2, clips_per_video=2)
    logits = model(batch)
    frames = batch.labels[batch.video_index].repeat_interleave(16)
    torch.testing.assert_close(model.training_step(batch, 0), model.loss(logits.flatten(0, 1), frames))
    expected = logits.softmax(dim=2).mean(dim=1).view(2, 2, 2).mean(dim=1)
    torch.testing.assert_close(model.video_scores(batch), expected)


def test_frames_are_learnt_by_heart() -> None:
    """The bar moves down in the first half of each clip of class 0, and never in class 1: two labels in a clip."""
    model = make(num_classes=2, channels=(8, 16, 32)).train()
    batch = moving_bars(4)
    batch.clips[:, 8:] = 0
    labels = batch.labels[:, None].repeat(1, 16)
    labels[:, 8:] = 1
    batch = with_frame_labels(batch, labels)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        model.training_step(batch, 0).backward()
        optimizer.step()
    assert (model.eval()(batch).argmax(dim=2) == labels).float().mean() > 0.95
