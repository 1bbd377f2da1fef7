"""Callbacks that disturb a run from within, with real signals, each moment once; the file travels with the job."""

import os
import shutil
import signal
import time
from pathlib import Path

import pytorch_lightning as pl
import torch

MOMENTS = ("first-step", "step", "write", "damage", "validation", "sigterm")


class FaultInjection(pl.Callback):
    """SIGKILL in the first step, in a later one, while a checkpoint is written, beside a damaged one, in validation.

    Then SIGTERM, which is no failure.

    Args:
        folder: Where each moment that has been is noted; shared by all ranks and attempts.
        checkpoints: The run's folder of checkpoints.
    """

    def __init__(self, folder: str, checkpoints: str) -> None:
        self.folder = Path(folder)
        self.checkpoints = Path(checkpoints)

    def on_train_start(self, trainer, pl_module):
        print(f"TRAINS rank={trainer.global_rank} from step {trainer.global_step}", flush=True)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        if trainer.global_rank == 1 and trainer.global_step == 0:
            self._once("first-step", signal.SIGKILL)

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_rank == 1 and trainer.global_step == 3:
            self._once("step", signal.SIGKILL)
        if trainer.global_rank == 0 and trainer.global_step == 7 and self._is_new("damage"):
            newest = max(self.checkpoints.glob("step-*.ckpt"))
            os.truncate(newest, newest.stat().st_size // 2)
            print(f"DAMAGED {newest.name}", flush=True)
            self._once("damage", signal.SIGKILL)
        if trainer.global_rank == 1 and trainer.global_step == 9 and self._is_new("sigterm"):
            self._once("sigterm", signal.SIGTERM)
            time.sleep(2)  # the signal is taken in another thread, and these steps are short

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        if trainer.global_rank == 0 and trainer.global_step == 5 and self._is_new("write"):
            checkpoint["bomb"] = _KillWhenPickled(self)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        if trainer.global_rank == 1 and trainer.global_step >= 9:
            self._once("validation", signal.SIGKILL)

    def _is_new(self, moment):
        return not (self.folder / moment).exists()

    def _once(self, moment, number):
        if self._is_new(moment):
            (self.folder / moment).touch()
            os.kill(os.getpid(), number)


class _KillWhenPickled:
    """Goes off when it is pickled: the checkpoint's file is open, and not yet written."""

    def __init__(self, disturbances):
        self.disturbances = disturbances

    def __reduce__(self):
        partial = list(self.disturbances.checkpoints.glob(".*.partial"))
        print(f"WRITING {len(partial)}", flush=True)
        self.disturbances._once("write", signal.SIGKILL)
        return (int, ())


class BatchRecorder(pl.Callback):
    """Notes who trained on what, in `FOLDER/{attempt}-{rank}.txt`.

    The first line: time, steps done before. Then a line a step: epoch, steps done before, ranks, learning rate, keys.
    A step takes `delay` seconds more until there is a file FOLDER.hurry.
    """

    def __init__(self, folder: str, delay: float = 0.0) -> None:
        self.folder = Path(folder)
        self.delay = delay

    def on_train_start(self, trainer, pl_module):
        from jobs.training.heartbeat_callback import HeartbeatCallback

        [attempt] = [each.sender.group for each in trainer.callbacks if isinstance(each, HeartbeatCallback)]
        self.file = (self.folder / f"{attempt}-{trainer.global_rank}.txt").open("w", buffering=1)
        print(time.time(), trainer.global_step, file=self.file)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.rate = optimizer.param_groups[0]["lr"]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if not self.folder.with_suffix(".hurry").exists():
            time.sleep(self.delay)
        fields = [trainer.current_epoch, trainer.global_step - 1, trainer.world_size, self.rate, *batch.keys]
        print(*fields, file=self.file)


class NodeLoss(pl.Callback):
    """Once, in the step after the tenth: what this node has of the run is gone, and so is the process.

    Args:
        folder: Where it is noted that this has been.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_after_backward(self, trainer, pl_module):
        marker = self.folder / "node-lost"
        if trainer.global_step == 10 and not marker.exists():
            marker.touch()
            shutil.rmtree(trainer.default_root_dir)
            os.kill(os.getpid(), signal.SIGKILL)


class RankHang(pl.Callback):
    """Rank 1 sleeps in its third step, once."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        marker = self.folder / "hung"
        if trainer.global_rank == 1 and trainer.global_step == 2 and not marker.exists():
            marker.touch()
            self.sleep_for_good()

    def sleep_for_good(self):
        while torch.initial_seed() is not None:
            time.sleep(1)
