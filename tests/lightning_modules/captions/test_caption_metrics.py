"""Metrics of captions by hand, and which caption a clip is trained on."""

import pytest
import torch

from lightning_modules.captions.batch_captions import draw_captions
from lightning_modules.captions.caption_metrics import CaptionMetrics
from tests.lightning_modules.clip_batches import moving_bars


def metrics_of(captions, references, units="words", losses=(1.0,)):
    metrics = CaptionMetrics()
    metrics.update_captions(captions, references, units, torch.tensor(losses))
    return {name: metric.compute().item() for name, metric in metrics.items()}


def test_any_reference_of_a_video_will_do_and_is_compared_in_small_letters_without_punctuation():
    found = metrics_of(
        ["the bar falls", "it is up"], [["A bar!", "The bar, falls."], ["It was up."]], losses=(1.0, 4.0)
    )
    assert found["exact_match"] == 0.5
    assert found["loss"] == 2.5
    assert metrics_of(["the bar falls"], [["The bar, falls."]], "characters")["exact_match"] == 0


def test_the_loss_is_the_mean_over_words_not_over_batches():
    metrics = CaptionMetrics()
    for losses in ((1.0,), (4.0, 7.0)):
        metrics.update_captions(["a"], [["a"]], "words", torch.tensor(losses))
    assert metrics["loss"].compute() == 4


def test_bleu_counts_runs_of_four_words_of_all_references():
    """By hand: of 6 words 5 are right, of 5 pairs 4, of 4 runs of three 3, of 3 runs of four 2, of equal length."""
    said, told = "a b c d e f", ["a b c d e x", "f g h i j k l m"]
    expected = (5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
    assert metrics_of([said], [told[:1]])["bleu4"] == pytest.approx(expected)
    both = metrics_of([said], [told])["bleu4"]  # of the other reference comes the word f
    assert both == pytest.approx((6 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25)
    assert metrics_of(["a b c"], [["a b c"]])["bleu4"] == 0  # no four words


def test_a_clip_is_trained_on_any_caption_of_its_own_video():
    batch = moving_bars(2, clips_per_video=2)._replace(captions=[["a", "b"], ["c"]])
    batch = batch._replace(video_index=torch.tensor([1, 0, 0, 1]))
    drawn = [draw_captions(batch, seed) for seed in range(20)]
    assert {(one[0], one[3]) for one in drawn} == {("c", "c")}
    assert {(one[1], one[2]) for one in drawn} == {("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")}
    assert drawn[3] == draw_captions(batch, 3)
