"""When checkpoints are saved, on a real Trainer in this process; and what a storage that fails does to training."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from pipeline.checkpoints.checkpoint_options import CheckpointOptions
from pipeline.checkpoints.checkpoint_store import CheckpointStore
from pipeline.checkpoints.run_checkpoint import LastCheckpointError, RunCheckpoint
from pipeline.checkpoints.storage import open_storage
from tests.pipeline.checkpoints.test_checkpoint_store import small_disk, store_in  # noqa: F401 # one is a fixture

STEPS = 8  # of an epoch


class Model(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(4, 2)
        self.register_buffer("ballast", torch.zeros(50_000))

    def training_step(self, batch: list[torch.Tensor], index: int) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: list[torch.Tensor], index: int) -> None:
        self.log("val/top1", float(self.trainer.global_step))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


class Disk(pl.Callback):
    """Fills a disk, or takes it away, before a step, and gives room again before another one."""

    def __init__(self, folder: Path, full_from: int, until: int, unmount: bool = False) -> None:
        self.filler, self.folder = folder / "filler", folder
        self.full_from, self.until, self.unmount = full_from, until, unmount

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.full_from and self.unmount:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)
        elif trainer.global_step == self.full_from:
            room = os.statvfs(self.folder)
            self.filler.write_bytes(b"x" * (room.f_bavail * room.f_bsize))
        if trainer.global_step == self.until:
            self.filler.unlink()


Make = Callable[[CheckpointOptions, CheckpointStore], RunCheckpoint]


def fit(
    folder: Path,
    *callbacks: pl.Callback,
    make: Make = RunCheckpoint,
    epochs: int = 2,
    accumulate: int = 1,
    **when: float,
) -> CheckpointStore:
    options = CheckpointOptions(keep_newest=2, keep_best=2, **when)  # type: ignore[arg-type]
    store = CheckpointStore(open_storage(f"{folder}/run"), options)
    points = torch.randn(STEPS * 4, 4, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(points, (points.sum(1) > 0).long()), batch_size=4)
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = pl.Trainer(
        max_epochs=epochs,
        accumulate_grad_batches=accumulate,
        callbacks=[*callbacks, make(options, store)],
        enable_model_summary=False,
        **quiet,  # type: ignore[arg-type]
    )
    trainer.fit(Model(), loader, loader)
    return store


class Writes(RunCheckpoint):
    """Notes at which steps it saves."""

    steps: ClassVar[list[int]] = []

    def save(self, trainer: pl.Trainer) -> None:
        super().save(trainer)
        self.steps.append(trainer.global_step)


@pytest.fixture
def written() -> list[int]:
    Writes.steps.clear()
    return Writes.steps


def test_every_n_steps_and_before_and_after_validation(tmp_path: Path, written: list[int]) -> None:
    store = fit(tmp_path, make=Writes, every_n_steps=3)
    assert written == [3, 6, 8, 8, 9, 12, 15, 16, 16]
    assert [each.step for each in store.list_checkpoints()] == [8, 15, 16]
    assert ["val/top1" in each.metrics for each in store.list_checkpoints()] == [True, False, True]
    assert store.find_newest_intact() == (store.list_checkpoints()[-1], [])


def test_by_the_clock(tmp_path: Path, written: list[int]) -> None:
    fit(tmp_path, make=Writes, every_minutes=1e-9)
    assert sorted(set(written)) == [*range(1, 17)], "as often as it can"
    written.clear()
    fit(tmp_path / "b", make=Writes, every_minutes=1000)
    assert written == [8, 8, 16, 16], "never but around validation"


def test_only_whole_optimizer_steps_are_saved(tmp_path: Path, written: list[int]) -> None:
    fit(tmp_path, make=Writes, every_n_steps=1, accumulate=3)  # 3 steps an epoch
    assert sorted(set(written)) == [1, 2, 3, 4, 5, 6]


def test_a_full_disk_costs_a_line_and_no_training(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    store = fit(small_disk, Disk(small_disk, full_from=4, until=10), every_n_steps=2)
    said = capsys.readouterr().err
    assert [line.partition(" (")[0] for line in said.splitlines() if line.startswith("warning: the checkp")] == [
        f"warning: the checkpoint of step {step} cannot be written" for step in (6, 8, 8, 10)
    ]
    assert "0 MiB are free" in said
    assert "training goes on, the newest one that was stays" in said
    assert [each.step for each in store.list_checkpoints()] == [14, 16], "and what was there has made room in time"
    assert store.find_newest_intact() == (store.list_checkpoints()[-1], [])


@pytest.mark.parametrize("unmount", [False, True])
def test_the_last_checkpoint_must_be_written(small_disk: Path, unmount: bool) -> None:  # noqa: F811
    with pytest.raises(LastCheckpointError, match="training is done, but its last checkpoint cannot be"):
        fit(small_disk, Disk(small_disk, full_from=12, until=-1, unmount=unmount), every_n_steps=2)
    if unmount:
        assert list(small_disk.iterdir()) == []
    else:
        newest, damaged = store_in(small_disk).find_newest_intact()
        assert newest is not None
        assert (newest.step, damaged) == (12, [])
