"""Balanced epochs, class weights and the focal loss through the command line, with mixing, and resumed."""

import numpy as np
import pytest

from lightning_modules import VideoClassifier
from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.__main__ import main
from tests.pipeline.training.test_lightning_cli import TINY, assert_same_weights, checkpoints, config, weights  # noqa: F401


def test_a_balanced_weighted_focal_run_resumes_bit_for_bit(config, tmp_path, monkeypatch, unbalanced_dataset):  # noqa: F811
    options = {"class_weights": "balanced", "focal_gamma": 2.0, "label_smoothing": 0.1, "mixup_alpha": 0.4}
    for name, value in options.items():
        monkeypatch.setitem(TINY["model"]["init_args"], name, value)
    data = {"root": str(unbalanced_dataset), "class_balance": "sqrt"}
    assert main(["fit", "--config", config(data=data, callbacks=[checkpoints(tmp_path / "whole")])]) == 0
    middle = tmp_path / "whole" / "step=3.ckpt"
    state = read_checkpoint(middle)["ShardedVideoDataModule"]
    assert (state["epoch"], state["consumed"], state["order"]["class_balance"]) == (0, 12, "sqrt")
    resumed = config(data=data, callbacks=[checkpoints(tmp_path / "resumed")])
    assert main(["fit", "--config", resumed, "--ckpt_path", str(middle)]) == 0
    assert_same_weights(weights(tmp_path / "whole/step=8.ckpt"), weights(tmp_path / "resumed/step=8.ckpt"))

    roots = np.sqrt([11, 1, 4])  # often, once, seldom
    for folder in ("whole", "resumed"):
        network = VideoClassifier.load(tmp_path / folder / "step=8.ckpt")
        assert network.hparams["class_frequencies"] == pytest.approx((roots / roots.sum()).tolist())
        # Of what an epoch draws, not of the videos that there are: nothing is made up for twice.
        assert network.loss.weights.tolist() == pytest.approx((roots.sum() / (3 * roots)).tolist())
        assert network.loss.focal_gamma == 2.0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--data.init_args.class_balance", "equal"],
            "data.class_balance: must be one of none, sqrt, balanced, not equal",
        ),
        (["--data.init_args.class_balance", "sqrt", "--data.init_args.shuffle", "shards"], "use shuffle=global"),
        (["--model.init_args.focal_gamma", "-1"], "focal_gamma=-1.0: must be at least 0"),
        (["--model.init_args.class_weights", "some"], "model.class_weights: must be one of none, balanced, not some"),
    ],
)
def test_bad_input_is_one_sentence(config, capsys, words, message):  # noqa: F811
    assert main(["fit", "--config", config(), *words]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()[-1:]
    assert line.startswith("error: ")
    assert message in line
