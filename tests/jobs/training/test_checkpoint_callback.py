"""When checkpoints are saved, on a real Trainer in this process; and what a storage that fails does to training."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from jobs.storage.checkpoint_store import CheckpointStore
from jobs.storage.run_folder import RunFolder
from jobs.training import checkpoint_callback, heartbeat
from tests.jobs.storage.test_checkpoint_store import small_disk  # noqa: F401 # a fixture

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


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    checkpoint_callback.store, heartbeat.current = None, None


def fit(folder: Path, *callbacks: pl.Callback, epochs: int = 2, accumulate: int = 1, **when: float) -> CheckpointStore:
    run = RunFolder(str(folder), "run")
    store = checkpoint_callback.store = CheckpointStore(run, 2, "val/top1", "max")
    store.create()
    points = torch.randn(STEPS * 4, 4, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(points, (points.sum(1) > 0).long()), batch_size=4)
    quiet = {"logger": False, "enable_progress_bar": False, "accelerator": "cpu"}
    report = checkpoint_callback.CheckpointCallback(**when)  # type: ignore[arg-type]
    trainer = pl.Trainer(
        max_epochs=epochs,
        accumulate_grad_batches=accumulate,
        callbacks=[*callbacks, report],
        enable_model_summary=False,
        **quiet,  # type: ignore[arg-type]
    )
    trainer.fit(Model(), loader, loader)
    return store


def reported(capsys: pytest.CaptureFixture[str]) -> list[int]:
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("checkpoint reported")]
    return [int(line.rpartition("step ")[2]) for line in lines]


def test_every_n_steps_and_at_the_ends_of_epochs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = fit(tmp_path, every_n_steps=3)
    assert reported(capsys) == [3, 6, 8, 9, 12, 15, 16]
    assert [each.step for each in store.saved()] == [8, 15, 16]
    assert ["val/top1" in each.metrics for each in store.saved()] == [True, False, True]
    assert store.newest_whole(print) == store.saved()[-1]


def test_by_the_clock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, every_n_steps=0, every_minutes=1e-9)
    assert reported(capsys) == [*range(1, 17)], "as often as it can"
    fit(tmp_path / "b", every_n_steps=0, every_minutes=1000)
    assert reported(capsys) == [8, 16], "never but at the ends of epochs"


def test_only_whole_optimizer_steps_are_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, every_n_steps=1, accumulate=3)  # 3 steps an epoch
    assert reported(capsys) == [1, 2, 3, 4, 5, 6]


def test_a_full_disk_costs_a_line_and_no_training(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    store = fit(small_disk, Disk(small_disk, full_from=4, until=10), every_n_steps=2)
    out = capsys.readouterr().out
    assert [line.partition(" (")[0] for line in out.splitlines() if line.startswith("warning")] == [
        f"warning: the checkpoint of step {step} cannot be written" for step in (6, 8, 10)
    ]
    assert "training goes on, the newest one that was stays" in out
    assert [each.step for each in store.saved()] == [14, 16], "and what was there has made room in time"
    assert store.newest_whole(print) == store.saved()[-1]


@pytest.mark.parametrize("unmount", [False, True])
def test_the_last_checkpoint_must_be_written(small_disk: Path, unmount: bool) -> None:  # noqa: F811
    with pytest.raises(
        checkpoint_callback.LastCheckpointError, match="training is done, but its last checkpoint cannot be"
    ):
        fit(small_disk, Disk(small_disk, full_from=12, until=-1, unmount=unmount), every_n_steps=2)
    if unmount:
        assert list(small_disk.iterdir()) == []
    else:
        store = CheckpointStore(RunFolder(str(small_disk), "run"), 2, "val/top1", "max")
        assert [each.step for each in store.saved()][-1] == 12
        assert store.newest_whole(print) is not None


def test_asked_to_leave_it_saves_and_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    heartbeat.current = heartbeat.HeartbeatSender(0, 1, "group")

    class Asks(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 2:
                heartbeat.current.leave = "the job was stopped"  # type: ignore[union-attr]

    with pytest.raises(checkpoint_callback.RestartRequestedError, match="the job was stopped") as left:
        fit(tmp_path, Asks(), every_n_steps=100)
    assert left.value.step == 3
    assert reported(capsys) == [3]
