"""Augmented clips of real DDP runs: the same pixels with one process and with two, stopped and taken up again."""

import subprocess
import sys

import pytest

from tests.pipeline.training.test_lightning_cli import checkpoints, config  # noqa: F401 # a fixture

AUGMENTED = {"rand_augment": {"num_ops": 2, "magnitude": 9}, "color_jitter": {"probability": 1.0}, "clips_per_video": 2}


def fit(config, tmp_path, name, ranks, batch_size, resume=None):  # noqa: F811
    """The lines of all ranks: key and digest of every clip that an epoch trained on."""
    folder = tmp_path / name
    clips = {
        "class_path": "tests.pipeline.training.recording.RecordClips",
        "init_args": {"folder": str(folder / "clips")},
    }
    path = config(
        {"devices": ranks, "strategy": "ddp" if ranks > 1 else "auto", "max_epochs": 1, "limit_val_batches": 0},
        data=AUGMENTED | {"batch_size": batch_size, "num_workers": ranks},
        callbacks=[checkpoints(folder), clips],
    )
    words = [sys.executable, "-m", "pipeline", "fit", "--config", path]
    run = subprocess.run([*words, *(["--ckpt_path", str(resume)] if resume else [])], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return sorted(line for file in (folder / "clips").iterdir() for line in file.read_text().splitlines())


@pytest.mark.slow
def test_pixels_do_not_depend_on_ranks_nor_on_a_stop(config, tmp_path):  # noqa: F811
    alone = fit(config, tmp_path, "alone", ranks=1, batch_size=8)
    assert len(set(alone)) == 80
    assert fit(config, tmp_path, "two", ranks=2, batch_size=5) == alone
    rest = fit(config, tmp_path, "rest", ranks=2, batch_size=3, resume=tmp_path / "alone" / "step=2.ckpt")
    assert len(rest) == 80 - 2 * 8 * 2
    assert set(rest) < set(alone)
