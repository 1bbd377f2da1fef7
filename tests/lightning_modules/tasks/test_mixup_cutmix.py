"""MixUp and CutMix, on numbers that can be checked by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lightning_modules import CNNLSTM
from lightning_modules.tasks.mixup_cutmix import MixUpCutMix, draw_mix
from tests.lightning_modules.clip_batches import moving_bars


def clips(*values: float) -> torch.Tensor:
    """float (N, 1, 2, 4, 4): clips of one value each."""
    return torch.tensor(values).reshape(-1, 1, 1, 1, 1).repeat(1, 1, 2, 4, 4)


def test_mixup_blends_clips_and_labels():
    mix = MixUpCutMix(torch.tensor([1, 2, 0]), share=0.75)
    mixed = mix.clips(clips(0, 4, 8))
    assert mixed[:, 0, :, 0, 0].tolist() == [[1, 1], [5, 5], [6, 6]]
    assert mix.targets(torch.tensor([0, 1, 1]), 3).tolist() == [[0.75, 0.25, 0], [0, 1, 0], [0.25, 0.75, 0]]
    assert mix.dominant(torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]
    assert mix._replace(share=0.4).dominant(torch.tensor([0, 1, 2])).tolist() == [1, 2, 0]


def test_cutmix_pastes_the_same_patch_into_all_frames():
    x = clips(0, 1)
    mixed = MixUpCutMix(torch.tensor([1, 0]), share=1 - 2 * 3 / 16, box=(1, 3, 0, 3)).clips(x)
    patch = [[0, 0, 0, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]
    assert mixed[0, 0].tolist() == [patch, patch]
    assert torch.equal(mixed[1], 1 - mixed[0])
    assert torch.equal(x, clips(0, 1))


def draws(number=400, **more):
    settings = {"num_clips": 4, "size": (8, 10), "mixup_alpha": 1.0, "cutmix_alpha": 1.0, "probability": 1.0} | more
    return [draw_mix([0, 0, batch, 0], **settings) for batch in range(number)]


def test_the_share_of_a_patch_is_what_it_leaves():
    for mix in draws(mixup_alpha=0.0):
        top, bottom, left, right = mix.box
        assert 0 <= top <= bottom <= 8
        assert 0 <= left <= right <= 10
        assert mix.share == pytest.approx(1 - (bottom - top) * (right - left) / 80)
        assert sorted(mix.partners.tolist()) == [0, 1, 2, 3]


def test_a_patch_has_its_share_of_the_sides_around_a_pixel_anywhere():
    """Beta(1e7, 1e7) is 1/2: of 8 rows int(8 sqrt(1/2)) = 5, of 10 columns 7; what lies outside is cut off."""
    boxes = [mix.box for mix in draws(mixup_alpha=0.0, cutmix_alpha=1e7)]
    assert {box[:2] for box in boxes} == {(max(0, row - 2), min(8, row + 3)) for row in range(8)}
    assert {box[2:] for box in boxes} == {(max(0, column - 3), min(10, column + 4)) for column in range(10)}


def test_every_clip_can_be_mixed_with_any():
    partners = {tuple(mix.partners.tolist()) for mix in draws()}
    assert len(partners) == 24  # all permutations of four
    shares = [mix.share for mix in draws(mixup_alpha=2.0, cutmix_alpha=0.3) if mix.box is None]
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    assert np.var(shares) == pytest.approx(1 / (4 * (2 * 2 + 1)), rel=0.3)


def test_both_take_turns_by_chance_and_probability_leaves_batches_alone():
    kinds = [mix.box is None for mix in draws()]
    assert 160 < sum(kinds) < 240
    assert 160 < sum(mix is None for mix in draws(probability=0.5)) < 240
    assert all(mix is None for mix in draws(10, probability=0.0))
    assert all(mix is None for mix in draws(10, mixup_alpha=0.0, cutmix_alpha=0.0))
    assert all(mix is None for mix in draws(10, num_clips=1))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 8.0])
def test_shares_are_beta_distributed(alpha):
    shares = np.array([mix.share for mix in draws(1000, mixup_alpha=alpha, cutmix_alpha=0.0)])
    assert shares.mean() == pytest.approx(0.5, abs=0.05)
    assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.15)  # of Beta(alpha, alpha)


def test_a_draw_follows_from_its_key():
    same, again = (draw_mix([7, 1, 2, 3], 5, (8, 8), 1.0, 0.0, 1.0) for _ in range(2))
    assert (same.share, same.partners.tolist()) == (again.share, again.partners.tolist())
    others = [draw_mix(key, 5, (8, 8), 1.0, 0.0, 1.0).share for key in ([8, 1, 2, 3], [7, 0, 2, 3], [7, 1, 2, 4])]
    assert len({same.share, *others}) == 4


def quiet(**settings):
    torch.manual_seed(0)
    model = CNNLSTM(channels=(4,), hidden_size=6, num_classes=2, **settings)
    model.log = model.log_dict = lambda *args, **kwargs: None
    return model


def test_the_loss_is_that_of_the_mixed_clips_and_smoothed_soft_targets():
    model, batch = quiet(mixup_alpha=0.8, label_smoothing=0.1, dropout=0.0), moving_bars(4)
    number = next(n for n in range(9) if draw_mix([0, 0, n, 0], 4, (32, 32), 0.8, 0.0, 1.0).share < 0.4)
    mix = draw_mix([0, 0, number, 0], 4, (32, 32), 0.8, 0.0, 1.0)
    loss = model.training_step(batch, number)
    logits = model.clip_logits(mix.clips(model.normalize(batch)))
    soft = 0.9 * mix.targets(batch.labels, 2) + 0.1 / 2
    torch.testing.assert_close(loss, -(soft * F.log_softmax(logits, dim=1)).sum(dim=1).mean())


@pytest.mark.parametrize(
    "chosen",
    [
        {"mixup_alpha": 0.5, "cutmix_alpha": 0.0, "mix_probability": 1.0},
        {"mixup_alpha": 0.0, "cutmix_alpha": 2.0, "mix_probability": 1.0},
        {"mixup_alpha": 0.5, "cutmix_alpha": 2.0, "mix_probability": 0.4},
        {"mixup_alpha": 0.5, "cutmix_alpha": 2.0, "mix_probability": 0.0},
    ],
)
def test_what_is_asked_for_is_what_training_draws(chosen):
    """Of each of 24 batches: blended, patched or left alone, as `draw_mix` says of these very numbers."""
    model, x, drawn = quiet(**chosen), torch.zeros(4, 3, 2, 8, 11), []
    for number in range(24):
        found = model._draw_mix(x, number)
        expected = draw_mix([0, 0, number, 0], 4, (8, 11), *(chosen[name] for name in chosen))
        assert (found is None) == (expected is None)
        drawn.append(found)
        if found is not None:
            assert (found.share, found.box, found.partners.tolist()) == (
                expected.share,
                expected.box,
                expected.partners.tolist(),
            )
    if chosen["mix_probability"] == 0.4:
        assert {None if mix is None else mix.box is None for mix in drawn} == {None, True, False}


def test_metrics_of_training_count_the_dominant_label():
    model, batch = quiet(mixup_alpha=0.8), moving_bars(4)
    for number in range(9):
        mix = draw_mix([0, 0, number, 0], 4, (32, 32), 0.8, 0.0, 1.0)
        dominant = mix.dominant(batch.labels)
        model.clip_logits = lambda x, right=dominant: F.one_hot(right, 2) * 9.0
        model.on_train_batch_end(model.training_step(batch, number), batch, number)
    assert not torch.equal(dominant, batch.labels)
    assert model.train_metrics.compute()["train/top1"] == 1


def test_nothing_is_mixed_by_default_nor_in_evaluation():
    model, batch = quiet(dropout=0.0), moving_bars(4)
    expected = F.cross_entropy(model(batch), batch.labels)
    torch.testing.assert_close(model.training_step(batch, 0), expected, rtol=0, atol=0)
    mixing = quiet(dropout=0.0, mixup_alpha=1.0, cutmix_alpha=1.0).eval()
    mixing.load_state_dict(model.state_dict())
    torch.testing.assert_close(mixing.video_scores(batch), model.eval().video_scores(batch), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mixup_alpha": -1}, "mixup_alpha=-1: must be at least 0"),
        ({"cutmix_alpha": -0.5}, "cutmix_alpha=-0.5"),
        ({"mix_probability": 2}, "mix_probability=2: must be from 0 to 1"),
    ],
)
def test_wrong_arguments_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        quiet(**settings)
