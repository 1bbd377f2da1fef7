"""Stochastic depth on numbers that can be checked by hand."""

import pytest
import torch

from lightning_modules.layers.stochastic_depth import StochasticDepth, depth_probabilities


@pytest.mark.parametrize("probability", [0.25, 0.6])
def test_whole_samples_are_dropped_and_the_others_scaled(probability):
    """All features of a sample share its fate; what is kept is divided by 1 - p, so that the mean stays."""
    torch.manual_seed(0)
    ratio = StochasticDepth(probability).train()(torch.ones(4000, 2, 3)).flatten(1)
    assert torch.equal(ratio, ratio[:, :1].expand_as(ratio))
    kept = ratio[:, 0] > 0
    torch.testing.assert_close(ratio[kept], torch.full_like(ratio[kept], 1 / (1 - probability)))
    assert kept.float().mean().item() == pytest.approx(1 - probability, abs=0.04)


def test_evaluation_and_probability_0_change_nothing():
    x = torch.randn(16, 3)
    assert torch.equal(StochasticDepth(0.9).eval()(x), x)
    assert torch.equal(StochasticDepth(0.0).train()(x), x)


def test_probabilities_rise_linearly_from_nothing_to_the_rate():
    assert depth_probabilities(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert depth_probabilities(0.3, 1) == [0]
