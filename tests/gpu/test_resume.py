"""A run that is resumed on a GPU goes on at the exact sample."""

import pytest
import torch

from pipeline.__main__ import main
from tests.gpu.devices import ACCELERATORS, SLOW_ON_CPU
from tests.pipeline.training.recording import recorded
from tests.pipeline.training.test_lightning_cli import checkpoints, weights

STOP, STEPS_AN_EPOCH = 14, 10
LEAST = 1e-5  # of the weights' norm: below it rounding alone


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Norm of the difference of all weights, relative to their norm."""
    pairs = [(one[name].double().cpu(), other[name].double().cpu()) for name in one if name.endswith("weight")]
    difference = torch.cat([(a - b).flatten() for a, b in pairs]).norm()
    return float(difference / torch.cat([a.flatten() for a, _ in pairs]).norm())


@pytest.mark.parametrize("device", SLOW_ON_CPU)
def test_a_resumed_run_reads_the_same_samples_and_ends_as_near_as_a_repetition(device, config, tmp_path):
    """Kernels of a GPU add in an order that varies, so that not even the same run ends at the same bits twice."""

    def fit(name: str, *words: str) -> dict[str, torch.Tensor]:
        keys = {
            "class_path": "tests.pipeline.training.recording.RecordKeys",
            "init_args": {"folder": str(tmp_path / name / "keys")},
        }
        trainer = {"accelerator": ACCELERATORS[device], "precision": "bf16-mixed" if device == "cuda" else "32-true"}
        path = config(trainer=trainer, callbacks=[checkpoints(tmp_path / name / "kept"), keys])
        assert main(["fit", "--config", path, *words]) == 0
        return weights(tmp_path / name / "kept" / "step=20.ckpt")

    whole = fit("whole")
    resumed = fit("resumed", "--ckpt_path", str(tmp_path / "whole" / "kept" / f"step={STOP}.ckpt"))
    expected = recorded(tmp_path / "whole" / "keys")  # of the second epoch
    left = {place: keys for place, keys in expected.items() if place[1] >= STOP - STEPS_AN_EPOCH}
    assert recorded(tmp_path / "resumed" / "keys") == left
    assert len(left) == 2 * STEPS_AN_EPOCH - STOP
    apart = distance(whole, fit("again")) if device == "cuda" else 0.0
    assert distance(whole, resumed) <= (10 * apart + LEAST if device == "cuda" else 0.0)
    start = weights(tmp_path / "whole" / "kept" / f"step={STOP}.ckpt")
    assert distance(whole, start) > 10 * LEAST  # the rest of the run changes more than that
