"""A user's own model and data, as they would lie in the folder of submit: `write_project` puts them there."""

from pathlib import Path

MODULE = '''
"""Two classes of points, told apart by the sign of their sum."""

import os
import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset


class Model(pl.LightningModule):
    def __init__(
        self, class_names: list[str] | None = None, seed: int = 0, delay: float = 0.0, learning_rate: float = 0.1
    ):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Linear(4, 2)

    def on_fit_start(self):
        where = f"cwd={os.getcwd()} threads={torch.get_num_threads()} wandb={os.environ.get('WANDB_MODE')}"
        print(f"STARTED rank={self.global_rank} of={self.trainer.world_size} pid={os.getpid()} {where}", flush=True)

    def on_train_start(self):
        print(f"TRAINS from step {self.global_step}", flush=True)

    def training_step(self, batch, index):
        if not Path("hurry").exists():
            time.sleep(self.hparams.delay)
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("val/top1", (self.net(batch[0]).argmax(1) == batch[1]).float().mean(), sync_dist=True)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams.learning_rate)


class Data(pl.LightningDataModule):
    class_names = ["a", "b"]

    def __init__(self, root: str = "numbers", seed: int = 0):
        super().__init__()
        self.root = Path(root)

    def train_dataloader(self):
        if not self.root.is_dir():
            raise FileNotFoundError(f"root={self.root}: there is no such folder")
        points = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        return DataLoader(TensorDataset(points, (points.sum(1) > 0).long()), batch_size=4)

    val_dataloader = train_dataloader
'''

CONFIG = """
model:
  class_path: own_module.Model
data:
  class_path: own_module.Data
  init_args:
    root: numbers
trainer:
  max_epochs: 2
  enable_progress_bar: false
  logger:
    class_path: pytorch_lightning.loggers.CSVLogger
    init_args:
      save_dir: logs
  callbacks:
    - class_path: pytorch_lightning.callbacks.LearningRateMonitor
"""


def write_project(folder: Path) -> None:
    """A module, a config that names it, and a folder of data that does not travel."""
    (folder / "numbers").mkdir(parents=True)
    (folder / "own_module.py").write_text(MODULE)
    (folder / "mine.yaml").write_text(CONFIG)
