"""Networks and callbacks that get a run into trouble at a given step, or write down how it ended."""

import hashlib
import os
import resource
import signal
import time
from pathlib import Path

import pytorch_lightning as pl

from lightning_modules import C3D


class SometimesNaN(C3D):
    """Its activations, its loss (infinite, with finite gradients) or its gradients are so at given batches of epoch 0.

    Args:
        bad_batches: numbers of the batches.
        bad_rank: the rank.
        what: `activations`, `loss` or `gradients`.
        **kwargs: arguments of C3D.
    """

    def __init__(self, bad_batches: list[int], bad_rank: int = 0, what: str = "activations", **kwargs) -> None:
        super().__init__(**kwargs)
        self.bad = (bad_batches, bad_rank, what)
        self.batch_idx = 0

    def is_bad(self, what):
        batches, rank, kind = self.bad
        is_here = self.training and self.current_epoch == 0 and self.global_rank == rank
        return is_here and self.batch_idx in batches and kind == what

    def training_step(self, batch, batch_idx):
        self.batch_idx = batch_idx
        loss = super().training_step(batch, batch_idx)
        if self.is_bad("gradients"):
            loss.register_hook(lambda gradient: gradient * float("inf"))
        return loss + float("inf") if self.is_bad("loss") else loss

    def clip_logits(self, x):
        return super().clip_logits(x * float("nan") if self.is_bad("activations") else x)


class RecordWeights(pl.Callback):
    """FOLDER/rank{rank}.txt: a digest of all weights and buffers at the end of training."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_end(self, trainer, model):
        digest = hashlib.sha256()
        for name, tensor in sorted(model.state_dict().items()):
            digest.update(name.encode() + tensor.cpu().numpy().tobytes())
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"rank{trainer.global_rank}.txt").write_text(digest.hexdigest())


class FailAt(pl.Callback):
    """Raises an error of no kind that anybody expects, before a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        if trainer.global_step == self.step:
            raise RuntimeError("the machine is on fire\nand more")


class LimitFileSize(pl.Callback):
    """From a step on, no file of this process grows beyond 4 KiB, as on a disk that is full."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        if trainer.global_step == self.step:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


class AskToLeave(pl.Callback):
    """SIGTERM, or another signal, to the process of one rank before a step."""

    def __init__(self, step: int, rank: int = 0, number: int = signal.SIGTERM) -> None:
        self.step, self.rank, self.number = step, rank, number

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        if (trainer.global_rank, trainer.global_step) == (self.rank, self.step):
            os.kill(os.getpid(), self.number)


class DieOnce(pl.Callback):
    """SIGKILL to rank 1 before a step, the first time."""

    def __init__(self, step: int, folder: str) -> None:
        self.step = step
        self.sign = Path(folder) / "died"

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.global_step == self.step and not self.sign.exists():
            self.sign.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class FailBesideStuckRank(pl.Callback):
    """Before a step rank 0 raises, once rank 1 sleeps, deaf to SIGTERM as in a collective of NCCL; FOLDER/pid."""

    def __init__(self, step: int, folder: str) -> None:
        self.step = step
        self.sign = Path(folder) / "pid"

    def on_train_batch_start(self, trainer, model, batch, batch_idx):
        if trainer.global_step == self.step and trainer.global_rank == 1:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            self.sign.write_text(str(os.getpid()))
            time.sleep(600)
        if trainer.global_step == self.step:
            while not self.sign.exists():
                time.sleep(0.05)
            raise RuntimeError("the machine is on fire")


class FailInValidation(pl.Callback):
    """Raises in the first validation."""

    def on_validation_batch_start(self, trainer, model, batch, batch_idx):
        raise RuntimeError("the machine is on fire")


class EmptyBatches(pl.Callback):
    """Leaves a rank without videos at a step, as if none of them could be decoded."""

    def __init__(self, rank: int, step: int) -> None:
        self.rank, self.step = rank, step

    def on_train_start(self, trainer, model):
        step = model.training_step

        def training_step(batch, batch_idx):
            if (trainer.global_rank, batch_idx) == (self.rank, self.step):
                batch = batch._replace(
                    clips=batch.clips[:0], video_index=batch.video_index[:0], labels=batch.labels[:0], keys=()
                )
            return step(batch, batch_idx)

        model.training_step = training_step
