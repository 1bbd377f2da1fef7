"""A module of a user's own, without the arguments that our networks get from the data, trains and resumes."""

import sys
from pathlib import Path

import pytest

from pipeline.__main__ import main

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
