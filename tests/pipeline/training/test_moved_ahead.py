"""Batches that are moved one ahead: checkpoints count those that were trained on, from which runs resume exactly."""

from pathlib import Path

import pytest
import yaml

from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.__main__ import main
from tests.pipeline.training.moved_ahead import AheadShardedVideoDataModule
from tests.pipeline.training.recording import recorded
from tests.pipeline.training.test_lightning_cli import (  # noqa: F401 # a fixture
    assert_same_weights,
    checkpoints,
    config,
    weights,
)

AHEAD = f"{AheadShardedVideoDataModule.__module__}.{AheadShardedVideoDataModule.__name__}"
AUGMENTED = {"rand_augment": {"num_ops": 2, "magnitude": 7}}


@pytest.fixture
def fit(config, tmp_path):  # noqa: F811
    """Fits with all batches recorded and all checkpoints kept; returns their folder."""

    def run(name: str, *words: str, ahead: bool = True, **data: object) -> Path:
        record = {
            "class_path": "tests.pipeline.training.recording.RecordKeys",
            "init_args": {"folder": str(tmp_path / name / "keys")},
        }
        path = config(data=AUGMENTED | data, callbacks=[checkpoints(tmp_path / name / "kept"), record])
        if ahead:
            content = yaml.safe_load(Path(path).read_text())
            content["data"]["class_path"] = AHEAD
            Path(path).write_text(yaml.safe_dump(content))
        assert main(["fit", "--config", path, *words]) == 0
        return tmp_path / name

    return run


def test_a_run_resumes_at_the_sample_after_the_last_one_it_trained_on(fit):
    plain, whole = fit("plain", ahead=False), fit("whole")
    assert recorded(whole / "keys") == recorded(plain / "keys")
    assert_same_weights(weights(whole / "kept/step=20.ckpt"), weights(plain / "kept/step=20.ckpt"))
    for step in range(1, 21):
        epoch, steps = divmod(step - 1, 10)
        state = read_checkpoint(whole / f"kept/step={step}.ckpt")[AheadShardedVideoDataModule.__name__]
        assert (state["epoch"], state["consumed"], state["steps"]) == (epoch, 4 * (steps + 1), steps + 1)
    for stop in (9, 13):  # when all batches of an epoch have been read, and in the middle of one
        resumed = fit(f"from {stop}", "--ckpt_path", str(whole / f"kept/step={stop}.ckpt"), num_workers=1)
        assert_same_weights(weights(resumed / "kept/step=20.ckpt"), weights(plain / "kept/step=20.ckpt"))
