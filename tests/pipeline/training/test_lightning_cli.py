"""Training through the command line: what a person types, on real shards, in this and in several processes."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from lightning_modules import C3D, VideoClassifier
from lightning_modules.weights.checkpoint_file import read_checkpoint
from pipeline.__main__ import main

PLANES = (
    "i420" if platform.machine() in ("x86_64", "AMD64") else "rgb"
)  # exact there: see datamodules.transforms.yuv420
TINY = {
    "seed_everything": 7,
    "model": {
        "class_path": "C3D",
        "init_args": {"width": 2, "num_frames": 16, "crop_size": 32, "batch_norm": True, "learning_rate": 0.01},
    },
    "trainer": {
        "accelerator": "cpu",
        "devices": 1,
        "max_epochs": 2,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    },
}


@pytest.fixture
def config(motion_dataset, tmp_path):
    """Writes a config file: TINY, with the given changes to the trainer and the data."""

    def write(trainer=None, data=None, callbacks=()):
        settings = {"root": str(motion_dataset), "batch_size": 4, "crop_size": 32, "num_workers": 0}
        settings |= {"flip_probability": 0.0, **(data or {})}
        content = TINY | {"data": {"class_path": "ShardedVideoDataModule", "init_args": settings}}
        content["trainer"] = TINY["trainer"] | {"default_root_dir": str(tmp_path / "run"), **(trainer or {})}
        if callbacks:
            content["trainer"]["callbacks"] = list(callbacks)
        path = tmp_path / f"config{len(list(tmp_path.iterdir()))}.yaml"
        path.write_text(yaml.safe_dump(content))
        return str(path)

    return write


def checkpoints(folder):
    """A callback that keeps a checkpoint of every step."""
    return {
        "class_path": "ModelCheckpoint",
        "init_args": {"dirpath": str(folder), "filename": "{step}", "every_n_train_steps": 1, "save_top_k": -1},
    }


def weights(path):
    return read_checkpoint(path)["state_dict"]


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert different == []


def test_fit_writes_a_checkpoint_with_the_datasets_classes(config, tmp_path, motion_dataset):
    assert main(["fit", "--config", config(callbacks=[checkpoints(tmp_path / "kept")])]) == 0
    model = VideoClassifier.load(tmp_path / "kept" / "step=20.ckpt")
    assert isinstance(model, C3D)
    assert "moving left" in model.class_names
    assert len(model.class_names) == 8
    assert model.hparams["seed"] == 7
    state = read_checkpoint(tmp_path / "kept" / "step=20.ckpt")["ShardedVideoDataModule"]
    assert (state["epoch"], state["consumed"], state["steps"]) == (1, 40, 10)
    assert state["dataset"]["name"]
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["init_args"]["batch_size"] == 4


@pytest.mark.parametrize(("stop", "pixels"), [(3, PLANES), (10, "rgb"), (14, "rgb")])
def test_a_resumed_run_repeats_the_uninterrupted_one_bit_for_bit(config, tmp_path, monkeypatch, stop, pixels):
    """In the middle of an epoch, at its end, and in the second: with augmentation, mixing and dropout."""
    monkeypatch.setitem(TINY["model"]["init_args"], "mixup_alpha", 0.4)
    monkeypatch.setitem(TINY["model"]["init_args"], "cutmix_alpha", 1.0)
    data = {"rand_augment": {"num_ops": 2, "magnitude": 7}, "color_jitter": {"hue": 0.2}}
    path = config(data=data, callbacks=[checkpoints(tmp_path / "whole")])
    assert main(["fit", "--config", path]) == 0
    resumed = config(callbacks=[checkpoints(tmp_path / "resumed")], data=data | {"num_workers": 1, "pixels": pixels})
    assert main(["fit", "--config", resumed, "--ckpt_path", str(tmp_path / "whole" / f"step={stop}.ckpt")]) == 0
    assert not (tmp_path / "resumed" / f"step={stop}.ckpt").exists()
    assert_same_weights(weights(tmp_path / "whole/step=20.ckpt"), weights(tmp_path / "resumed/step=20.ckpt"))


def test_resuming_with_another_batch_size_sees_the_remaining_videos(config, tmp_path):
    assert main(["fit", "--config", config(callbacks=[checkpoints(tmp_path / "first")])]) == 0
    second = config(data={"batch_size": 3}, callbacks=[checkpoints(tmp_path / "second")])
    assert main(["fit", "--config", second, "--ckpt_path", str(tmp_path / "first" / "step=4.ckpt")]) == 0
    # 16 of 40 videos are done: 8 steps of 3 end the epoch; the next has 13 steps of 3 and one of 1.
    steps = {int(path.stem.removeprefix("step=")) for path in (tmp_path / "second").iterdir()}
    assert max(steps) == 4 + 8 + 14
    state = read_checkpoint(tmp_path / "second" / "step=26.ckpt")["ShardedVideoDataModule"]
    assert (state["epoch"], state["consumed"], state["steps"]) == (1, 40, 14)


def test_resuming_on_other_data_is_refused(config, tmp_path, motion_dataset, capsys):
    assert main(["fit", "--config", config(callbacks=[checkpoints(tmp_path / "kept")])]) == 0
    checkpoint = torch.load(tmp_path / "kept/step=4.ckpt", weights_only=True)
    checkpoint["ShardedVideoDataModule"]["dataset"]["identity"] = "0" * 64
    torch.save(checkpoint, tmp_path / "other.ckpt")
    assert main(["fit", "--config", config(), "--ckpt_path", str(tmp_path / "other.ckpt")]) == 2
    assert "resume on the same data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["fit", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["fit", "--config", "CONFIG", "--trainer.max_epoch", "3"], "max_epoch"),
        (["fit", "--config", "CONFIG", "--data.init_args.root", "nowhere"], "nowhere"),
        (["fit", "--config", "CONFIG", "--data.init_args.batch_size", "0"], "batch_size=0: must be at least 1"),
        (["fit", "--config", "CONFIG", "--data.init_args.flip_probability", "0.5"], "flip_probability=0.5"),
        (["fit", "--config", "CONFIG", "--data.init_args.rand_augment.magnitude", "30"], "magnitude=30"),
        (["fit", "--config", "CONFIG", "--data.init_args.sided_classes", "['up and away']"], "'up and away'"),
        (["fit", "--config", "CONFIG", "--model.init_args.mixup_alpha", "-1"], "mixup_alpha=-1"),
        (["fit", "--config", "CONFIG", "--data.init_args.num_frames", "8"], "this C3D takes num_frames=16, crop_size="),
        (["fit", "--config", "CONFIG", "--model", "C4D"], "C4D"),
        (["fit", "--config", "CONFIG", "--trainer.accelerator", "mps"], "trainer, accelerator='mps', devices="),
        (["fitt"], "there is no verb 'fitt'; did you mean 'fit'?"),
        (["zzz"], "there is no verb 'zzz'; choose one of fit"),
        (["pack", "--anotations", "x"], "there is no option --anotations; did you mean --annotations?"),
        (["plan", "x", "--zzz"], "there is no option --zzz; `python -m pipeline plan --help` lists them"),
        (["pack", "--shortside", "3"], "--shortside"),
    ],
)
def test_bad_input_is_one_sentence(config, capsys, words, message):
    status = main([config() if word == "CONFIG" else word for word in words])
    error = capsys.readouterr().err
    assert status == 2
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert "Traceback" not in error


@pytest.mark.slow
def test_two_processes_are_fed_each_video_once_and_step_together(config, tmp_path):
    """Lightning's own launcher, two processes, gloo: no sampler is replaced, validation counts each video once."""
    trainer = {"devices": 2, "strategy": "ddp", "max_epochs": 1}
    path = config(trainer, data={"batch_size": 4}, callbacks=[checkpoints(tmp_path / "kept")])
    run = subprocess.run([sys.executable, "-m", "pipeline", "fit", "--config", path], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    state = read_checkpoint(tmp_path / "kept" / "step=5.ckpt")["ShardedVideoDataModule"]
    assert (state["epoch"], state["consumed"], state["steps"]) == (0, 40, 5)


MODULE = """
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Model(pl.LightningModule):
    def __init__(self, width: int = 4):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Linear(width, 2)

    def training_step(self, batch, index):
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Data(pl.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(TensorDataset(torch.ones(4, 4)), batch_size=2)
"""


def test_a_module_without_our_arguments_trains_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "module_of_a_user.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    fit = [
        "fit",
        "--model",
        "module_of_a_user.Model",
        "--data",
        "module_of_a_user.Data",
        "--trainer.accelerator",
        "cpu",
    ]
    fit += ["--trainer.logger", "false", "--trainer.default_root_dir", str(tmp_path / "run")]
    assert main([*fit, "--trainer.max_epochs", "1"]) == 0
    assert main([*fit, "--trainer.max_epochs", "2", "--ckpt_path", str(tmp_path / "run" / "last.ckpt")]) == 0
    sys.modules.pop("module_of_a_user", None)
