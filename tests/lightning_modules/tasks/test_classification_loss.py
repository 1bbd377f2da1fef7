"""The loss against torch, torchvision's formula and numbers that can be checked by hand."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from lightning_modules import CNNLSTM
from lightning_modules.tasks.classification_loss import ClassificationLoss, balanced_class_weights
from lightning_modules.tasks.mixup_cutmix import MixUpCutMix
from tests.lightning_modules.clip_batches import moving_bars

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0], [-2.0, 4.0, 1.0], [0.0, 0.0, 0.0]])
LABELS = torch.tensor([0, 2, 1, 2])
WEIGHTS = torch.tensor([0.5, 3.0, 1.5])


def loss(weights=None, **options):
    made = ClassificationLoss(**options)
    made.weights = weights
    return made


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_weighted_cross_entropy_is_torchs_but_for_its_divisor(smoothing):
    found = loss(WEIGHTS, label_smoothing=smoothing)(LOGITS, LABELS)
    each = F.cross_entropy(LOGITS, LABELS, WEIGHTS, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(found, each.mean())
    plain = loss(label_smoothing=smoothing)(LOGITS, LABELS)
    torch.testing.assert_close(plain, F.cross_entropy(LOGITS, LABELS, label_smoothing=smoothing), rtol=0, atol=0)


def test_weights_are_in_no_state_dict():
    """They follow from the arguments, and a checkpoint of a network without them opens with them."""
    made = loss(WEIGHTS)
    assert dict(made.named_buffers()).keys() == {"weights"}
    assert not made.state_dict()


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_is_that_of_the_paper(gamma):
    """Equation 5: -alpha_t (1 - p_t)^gamma log(p_t), p_t of the right class."""
    p_t = LOGITS.softmax(dim=1)[range(4), LABELS]
    expected = (WEIGHTS[LABELS] * (1 - p_t) ** gamma * -p_t.log()).mean()
    torch.testing.assert_close(loss(WEIGHTS, focal_gamma=gamma)(LOGITS, LABELS), expected)


def test_the_loss_of_a_mixed_clip_is_that_of_both_labels_by_share():
    made = loss(WEIGHTS, focal_gamma=2.0, label_smoothing=0.1)
    mix = MixUpCutMix(torch.tensor([1, 0, 3, 2]), share=0.7)
    one, other = (made(LOGITS, labels) for labels in (LABELS, LABELS[mix.partners]))
    torch.testing.assert_close(made(LOGITS, mix.targets(LABELS, 3)), 0.7 * one + 0.3 * other)


def test_certain_clips_have_gradients_that_are_numbers():
    for gamma in (0.3, 1.0, 2.0):
        for multi_label in (False, True):
            logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
            targets = torch.tensor([[1.0, 0.0]])
            loss(focal_gamma=gamma, multi_label=multi_label)(logits, targets).backward()
            assert logits.grad.isfinite().all()


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_multi_label_is_binary_cross_entropy_and_its_focal_form(weights):
    targets = torch.tensor([[1.0, 0, 1], [0, 0, 0], [0, 1, 0], [1, 1, 1]])
    expected = F.binary_cross_entropy_with_logits(LOGITS, targets, pos_weight=weights)
    torch.testing.assert_close(loss(weights, multi_label=True)(LOGITS, targets), expected)
    smoothed = F.binary_cross_entropy_with_logits(LOGITS, targets * 0.8 + 0.1, pos_weight=weights)
    torch.testing.assert_close(loss(weights, multi_label=True, label_smoothing=0.2)(LOGITS, targets), smoothed)
    p = LOGITS.sigmoid()
    p_t = p * targets + (1 - p) * (1 - targets)  # as torchvision.ops.sigmoid_focal_loss
    alpha = 1 if weights is None else weights * targets + 1 - targets
    focal = (alpha * (1 - p_t) ** 2 * -p_t.log()).mean()
    torch.testing.assert_close(loss(weights, multi_label=True, focal_gamma=2.0)(LOGITS, targets), focal)


@pytest.mark.parametrize("options", [{"multi_label": True}, {"focal_gamma": 2.0}])
def test_half_precision_logits_are_judged_in_single_precision(options):
    made, half = loss(WEIGHTS, **options), LOGITS.bfloat16()
    targets = F.one_hot(LABELS, 3) if "multi_label" in options else LABELS
    assert made(half, targets).dtype == torch.float32
    torch.testing.assert_close(made(half, targets), made(half.float(), targets), rtol=0, atol=0)


def test_balanced_weights_are_scikit_learns_and_average_one():
    labels = np.repeat([0, 1, 3], [6, 3, 1])
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=labels)
    weights = balanced_class_weights([0.6, 0.3, 0.0, 0.1])
    assert weights[[0, 1, 3]].tolist() == pytest.approx(expected.tolist())
    assert weights[2] == 1  # no video, no target
    assert weights[torch.from_numpy(labels)].mean() == pytest.approx(1)
    assert balanced_class_weights([0.25, 1.0, 0.0, 0.5], multi_label=True).tolist() == [3, 1, 1, 1]


def small(**settings):
    return CNNLSTM(channels=(4,), hidden_size=6, num_classes=2, **settings)


def test_the_frequencies_travel_in_the_checkpoint(tmp_path):
    model = small(class_weights="balanced", class_frequencies=[0.75, 0.25], focal_gamma=1.5)
    assert model.loss.weights.tolist() == pytest.approx([2 / 3, 2])
    checkpoint = {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams)}
    model.on_save_checkpoint(checkpoint)
    checkpoint["pytorch-lightning_version"] = "2"
    torch.save(checkpoint, tmp_path / "one.ckpt")
    again = CNNLSTM.load(tmp_path / "one.ckpt")
    assert again.loss.weights.tolist() == model.loss.weights.tolist()
    assert again.loss.focal_gamma == 1.5


def test_a_multi_label_network_weighs_positives():
    model = small(task="multi_label", class_weights="balanced", class_frequencies=[0.2, 0.5])
    assert model.loss.weights.tolist() == pytest.approx([4, 1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"focal_gamma": -1}, "focal_gamma=-1: must be at least 0"),
        ({"label_smoothing": 1.0}, r"label_smoothing=1.0: must be in \[0, 1\)"),
        ({"class_frequencies": [0.5]}, r"class_frequencies=\[0.5\]: must be 2 numbers"),
        ({"class_frequencies": [0.5, 7]}, r"in \[0, 1\]"),
    ],
)
def test_wrong_arguments_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        small(**settings)


def test_data_that_do_not_know_the_frequencies_are_refused():
    batches = torch.utils.data.DataLoader([moving_bars(2)], batch_size=None)
    trainer = pl.Trainer(max_steps=1, accelerator="cpu", logger=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match="class_weights='balanced', class_frequencies=None: give the fraction"):
        trainer.fit(small(class_weights="balanced"), batches)
    trainer.fit(small(class_weights="balanced", class_frequencies=[0.9, 0.1]), batches)
    assert trainer.global_step == 1
