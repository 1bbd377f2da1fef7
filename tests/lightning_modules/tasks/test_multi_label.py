"""A classifier of several labels a video: loss, smoothing, mixing, scores, checkpoints, and the refusal of others."""

import pytest
import torch
from pytorch_lightning import Trainer

from lightning_modules import CNNLSTM, VideoClassifier
from lightning_modules.tasks.classification_loss import ClassificationLoss
from lightning_modules.tasks.label_task import scores_loss
from lightning_modules.tasks.mixup_cutmix import draw_mix
from tests.lightning_modules.clip_batches import moving_bars

LABELS = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]], dtype=torch.uint8)


def batch(**more):
    return moving_bars(4, **more)._replace(labels=LABELS)


def network(**settings):
    torch.manual_seed(0)
    settings = {"task": "multi_label", "num_classes": 3, "dropout": 0.0} | settings
    model = CNNLSTM(channels=(4,), hidden_size=6, **settings)
    model.log = model.log_dict = lambda *args, **kwargs: None
    return model


def binary_cross_entropy(probabilities, targets):
    return -(targets * probabilities.log() + (1 - targets) * (1 - probabilities).log()).mean()


def test_the_loss_is_binary_cross_entropy_with_smoothed_targets():
    logits = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    targets = torch.tensor([[1, 0], [0, 1]], dtype=torch.uint8)
    for smoothing in (0.0, 0.2):
        smooth = targets * (1 - smoothing) + smoothing / 2
        found = ClassificationLoss(smoothing, multi_label=True)(logits, targets)
        torch.testing.assert_close(found, binary_cross_entropy(logits.sigmoid(), smooth))
    torch.testing.assert_close(
        scores_loss(logits.sigmoid(), targets, "multi_label"), ClassificationLoss(multi_label=True)(logits, targets)
    )
    assert scores_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[0, 1]]), "multi_label").isfinite()


def test_the_loss_of_scores_is_bounded_where_they_are_certain_and_wrong():
    """ln 1e-12 is -27.6; a probability of 1e-6 is still told from 0."""
    certain = torch.tensor([[1.0, 0.0], [1 - 1e-6, 1e-6]], dtype=torch.float64)
    found = scores_loss(certain, torch.tensor([1, 1]), "single_label")
    assert found.item() == pytest.approx((27.631021 + 13.815511) / 2, abs=1e-5)
    several = scores_loss(certain[:1], torch.tensor([[0, 1]]), "multi_label")
    assert several.item() == pytest.approx(27.631021, abs=1e-5)  # both classes are as wrong as can be


def test_mixed_clips_have_the_labels_of_both_by_share():
    model, clips = network(mixup_alpha=0.8, label_smoothing=0.1), batch()
    mix = draw_mix([0, 0, 0, 0], 4, (32, 32), 0.8, 0.0, 1.0)
    loss = model.training_step(clips, 0)
    probabilities = model.clip_logits(mix.clips(model.normalize(clips))).sigmoid()
    soft = mix.share * LABELS + (1 - mix.share) * LABELS[mix.partners]
    torch.testing.assert_close(loss, binary_cross_entropy(probabilities, 0.9 * soft + 0.05))
    assert mix.targets(LABELS, 3).tolist() == soft.tolist()


def test_scores_are_the_mean_of_the_views_sigmoids_or_the_sigmoid_of_the_mean_logit():
    model, clips = network().eval(), batch(clips_per_video=2)
    logits = model(clips).reshape(4, 2, 3)
    torch.testing.assert_close(model.video_scores(clips), logits.sigmoid().mean(1))
    model.view_average = "logits"
    torch.testing.assert_close(model.video_scores(clips), logits.mean(1).sigmoid())


def test_the_task_is_in_the_checkpoint_and_the_head_is_that_of_one_label(tmp_path):
    model = network(class_names=["a", "b", "c"])
    assert network(task="single_label").state_dict().keys() == model.state_dict().keys()
    trainer = quick_trainer(tmp_path)
    del model.log, model.log_dict
    trainer.fit(model, torch.utils.data.DataLoader([batch()], batch_size=None))
    trainer.save_checkpoint(tmp_path / "several.ckpt")
    loaded = VideoClassifier.load(tmp_path / "several.ckpt")
    assert loaded.task == "multi_label"
    torch.testing.assert_close(loaded.video_scores(batch()), model.eval().video_scores(batch()))
    with pytest.raises(
        ValueError, match=r"is of several labels a video .* the dataset of one class a video .*: choose a "
    ):
        trainer.validate(
            network(task="single_label"), torch.utils.data.DataLoader([moving_bars(4)], batch_size=None),
            ckpt_path=tmp_path / "several.ckpt",
        )  # fmt: skip


def test_labels_of_the_other_task_are_refused():
    with pytest.raises(ValueError, match=r"the network is of one class a video .* the batch of several labels a video"):
        network(task="single_label").training_step(batch(), 0)
    with pytest.raises(ValueError, match="make the network with task='single_label'"):
        network().validation_step(moving_bars(4), 0)
    with pytest.raises(ValueError, match="task='several': must be single_label or multi_label"):
        network(task="several")


def quick_trainer(folder, **settings):
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    return Trainer(accelerator="cpu", default_root_dir=folder, max_epochs=1, **quiet, **settings)


def test_three_labels_can_be_learnt_by_heart(tmp_path):
    """The class a is that the bar moves up, b that the clip is dim, c both."""
    clips = moving_bars(8, num_frames=8, size=16)
    clips.clips[::3] //= 3
    up, dim = clips.labels, torch.arange(8) % 3 == 0
    labels = torch.stack([up, dim, up.bool() & dim], dim=1).to(torch.uint8)
    model = network(optimizer="adamw", weight_decay=0.0, learning_rate=0.02, lr_schedule="constant")
    del model.log, model.log_dict
    trainer = quick_trainer(tmp_path)
    trainer.fit(model, torch.utils.data.DataLoader([clips._replace(labels=labels)] * 80, batch_size=None))
    loader = torch.utils.data.DataLoader([clips._replace(labels=labels)], batch_size=None)
    for one in (trainer, quick_trainer(tmp_path, precision="bf16-mixed")):
        [metrics] = one.validate(model, loader, verbose=False)
        assert metrics["val/mean_average_precision"] > 0.99
        assert metrics["val/top1_hit"] == 1
        assert metrics["val/loss"] < 0.5


@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_weights_of_the_other_task_come_without_their_classifier(tmp_path, task):
    """A network of three classes; only one of the same task starts with its classifier too."""
    source = network(task="single_label")
    del source.log, source.log_dict
    trainer = quick_trainer(tmp_path)
    trainer.strategy.connect(source)
    trainer.save_checkpoint(tmp_path / "source.ckpt", weights_only=True)
    torch.manual_seed(1)
    model = CNNLSTM(channels=(4,), hidden_size=6, num_classes=3, task=task, weights=str(tmp_path / "source.ckpt"))
    model.learning_rate = 0.0
    fitting = quick_trainer(tmp_path)
    fitting.strategy.connect(model)
    model.trainer = fitting
    model.setup("fit")
    pairs = {
        name: (value, model.state_dict()[name]) for name, value in source.state_dict().items() if "stages." in name
    }
    head = [name for name in pairs if name.startswith("stages.logits")]
    assert head
    for name, (before, after) in pairs.items():
        assert torch.equal(before, after) == (name not in head or task == "single_label"), name
