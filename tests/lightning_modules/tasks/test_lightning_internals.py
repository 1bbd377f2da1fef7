"""What is used of Lightning's private interfaces is there, and does what we take it for."""

import inspect

import pytest
import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LightningCLI
from pytorch_lightning.demos.boring_classes import BoringModel
from pytorch_lightning.profilers import PassThroughProfiler

from lightning_modules.tasks import lightning_internals


class Spans(PassThroughProfiler):
    """Keeps the names of what Lightning times."""

    def __init__(self):
        super().__init__()
        self.names = []

    def start(self, action_name):
        self.names.append(action_name)


class Watch(pl.Callback):
    """Asks after every training batch, and notes where validation came."""

    def __init__(self):
        self.asked, self.validated = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.asked.append((lightning_internals.logged_step(trainer), lightning_internals.validates_next(trainer)))

    def on_validation_start(self, trainer, pl_module):
        self.validated.append(trainer.global_step)


def test_a_fit_is_seen_through_them(tmp_path):
    spans, watch, saved = Spans(), Watch(), ModelCheckpoint(dirpath=tmp_path, every_n_train_steps=3, save_top_k=-1)
    assert lightning_internals.last_saved(saved) is None
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=5,
        limit_val_batches=1,
        val_check_interval=2,
        num_sanity_val_steps=0,
        profiler=spans,
        callbacks=[watch, saved],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    assert trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor.__name__ == "_broadcast_sigterm_tensor"
    lightning_internals.stop_sigterm_broadcast(trainer)
    assert trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor() is None
    trainer.fit(BoringModel())
    assert watch.validated == [2, 4]
    assert watch.asked == [(0, False), (1, True), (2, False), (3, True), (4, False)]
    assert "step=3" in lightning_internals.last_saved(saved).name
    assert spans.names.count(lightning_internals.WAIT_SPAN) >= 5
    assert [name for name in spans.names if name.endswith(lightning_internals.TRANSFER_SPAN)]


@pytest.mark.parametrize("asked", [True, False])
def test_whether_batch_norms_are_synchronized(asked):
    trainer = pl.Trainer(accelerator="cpu", strategy="ddp", devices=1, sync_batchnorm=asked, logger=False)
    assert lightning_internals.synchronizes_batch_norms(trainer) is asked


def test_the_methods_that_our_command_line_overrides():
    for name in ("_instantiate_trainer", "_run_subcommand", "_parse_ckpt_path", "_parser"):
        assert inspect.isfunction(getattr(LightningCLI, name)), name
