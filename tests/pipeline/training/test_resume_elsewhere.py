"""A run that is taken up by another number of processes: real DDP, real DataLoader workers, real checkpoints."""

import subprocess
import sys

import pytest

from datamodules.dataset.dataset_index import DatasetIndex
from tests.pipeline.training.recording import recorded
from tests.pipeline.training.test_lightning_cli import checkpoints, config  # noqa: F401 # a fixture

STOP = 2  # of 5 steps of 2 ranks x 4 videos: 16 of 40 are done


def fit(config, tmp_path, name, ranks, batch_size, resume=None):  # noqa: F811
    """Keys by (rank, step) of an epoch trained on `ranks` processes with two workers each."""
    keys = {
        "class_path": "tests.pipeline.training.recording.RecordKeys",
        "init_args": {"folder": str(tmp_path / name / "keys")},
    }
    path = config(
        {"devices": ranks, "strategy": "ddp" if ranks > 1 else "auto", "max_epochs": 1},
        data={"batch_size": batch_size, "num_workers": 2},
        callbacks=[checkpoints(tmp_path / name), keys],
    )
    words = [sys.executable, "-m", "pipeline", "fit", "--config", path]
    run = subprocess.run([*words, *(["--ckpt_path", str(resume)] if resume else [])], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return recorded(tmp_path / name / "keys")


@pytest.mark.slow
def test_the_rest_of_the_epoch_is_trained_on_once_by_any_number_of_ranks(config, tmp_path, motion_dataset):  # noqa: F811
    index = DatasetIndex.open(motion_dataset)
    train = {index.entry(int(row)).key for row in index.rows("train")}
    whole = fit(config, tmp_path, "whole", ranks=2, batch_size=4)
    assert sorted(key for keys in whole.values() for key in keys) == sorted(train)
    left = train - {key for (_, step), keys in whole.items() if step < STOP for key in keys}
    assert len(left) == 24
    checkpoint = tmp_path / "whole" / f"step={STOP}.ckpt"
    for ranks, batch_size in ((1, 5), (3, 3)):
        keys = fit(config, tmp_path, f"{ranks}-ranks", ranks, batch_size, checkpoint)
        assert sorted(key for keys_of_step in keys.values() for key in keys_of_step) == sorted(left)
        steps_of_each = {tuple(sorted(step for rank, step in keys if rank == mine)) for mine in range(ranks)}
        assert len(steps_of_each) == 1  # the same steps on every rank
    again = fit(config, tmp_path, "again", 2, 4, checkpoint)
    assert again == {place: keys for place, keys in whole.items() if place[1] >= STOP}
