"""NanGuard: ends the run, or skips the optimizer step, on all ranks when a loss is NaN or infinite."""

import math
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.plugins.precision.amp import MixedPrecision
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

_MAX_KEYS = 8


class BadLossError(ValueError):
    """Raised when the loss is NaN or infinite; the message, the same on all ranks, says at which step and videos."""


class NanGuard(pl.Callback):
    """Callback that checks every loss before the optimizer step.

    Args:
        max_bad_batches: in a run, optimizer steps that may be left out because the loss of one of their batches, on any
            rank, was NaN or infinite; one more ends the run. 0 ends it at the first. Those left out change neither
            weights nor the optimizer's averages nor running statistics; they are counted as `bad_batches`.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(self, max_bad_batches: int = 0) -> None:
        if max_bad_batches < 0:
            raise ValueError(f"bad_loss.max_bad_batches={max_bad_batches}: must be at least 0")
        self._max = max_bad_batches
        self._count = 0
        self._finite: Tensor | None = None
        self._losses: list[tuple[Tensor, list[str]]] = []
        self._keys: list[str] = []
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Saves the buffers (batch norm statistics), which the forward pass of a bad batch would spoil."""
        self._keys = list(getattr(batch, "keys", ()) if hasattr(batch, "clips") else ())
        if self._max and not self._losses:
            self._buffers = [(buffer, buffer.clone()) for buffer in pl_module.buffers()]

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keeps the loss, without synchronizing the device."""
        self._losses.append((loss.detach(), self._keys))

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Agrees with the other ranks, in an all-reduce, whether to skip this step.

        Raises:
            BadLossError: the step is bad, and `max_bad_batches` steps were skipped already.
        """
        losses, self._losses = self._losses, []
        if not losses:
            return
        bad = torch.stack([loss.float() for loss, _ in losses]).isfinite().logical_not().any().int()
        if trainer.world_size > 1:
            dist.all_reduce(bad, op=dist.ReduceOp.MAX)
        if not bad.item():
            return
        bad_losses = [(trainer.global_rank, float(loss), keys) for loss, keys in losses if not math.isfinite(loss)]
        self._count += 1
        description = _describe_bad_losses(trainer, _gather_bad_losses(trainer, bad_losses))
        if self._count > self._max:
            raise BadLossError(f"{description}; {self._advice()}")
        rank_zero_warn(f"{description}; the step is left out ({self._count} of at most {self._max})")
        self._skip_step(trainer, optimizer)

    def _skip_step(self, trainer: pl.Trainer, optimizer: torch.optim.Optimizer) -> None:
        with torch.no_grad():
            for buffer, before in self._buffers:
                buffer.copy_(before)
        scaler = trainer.precision_plugin.scaler if isinstance(trainer.precision_plugin, MixedPrecision) else None
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if scaler is None:
                    parameter.grad = None  # optimizers skip parameters without gradients
                elif parameter.grad is not None:
                    parameter.grad.fill_(math.nan)  # the gradient scaler skips the step itself, but needs gradients

    def _advice(self) -> str:
        if self._max:
            return f"{self._max} such steps were left out before (bad_loss.max_bad_batches)"
        return (
            "lower model.init_args.learning_rate, set trainer.gradient_clip_val, look at those videos, or let some "
            "such steps be left out with bad_loss.max_bad_batches"
        )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs the number of skipped steps as `bad_batches`, if there are any."""
        if self._count:
            pl_module.log("bad_batches", float(self._count), on_step=True, on_epoch=False, rank_zero_only=True)

    def state_dict(self) -> dict[str, Any]:
        """Returns the number of steps skipped so far."""
        return {"count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the number of skipped steps."""
        self._count = state_dict["count"]


_BadLoss = tuple[int, float, list[str]]


def _gather_bad_losses(trainer: pl.Trainer, bad_losses: list[_BadLoss]) -> list[_BadLoss]:
    if trainer.world_size == 1:
        return bad_losses
    gathered: list[list[_BadLoss]] = [[] for _ in range(trainer.world_size)]
    dist.all_gather_object(gathered, bad_losses)
    return [bad_loss for rank_losses in gathered for bad_loss in rank_losses]


def _describe_bad_losses(trainer: pl.Trainer, bad_losses: list[_BadLoss]) -> str:
    """Beginning of the message: step, epoch, and loss and videos by rank."""
    phrases = []
    for rank, loss, keys in bad_losses:
        suffix = f" and {len(keys) - _MAX_KEYS} more" if len(keys) > _MAX_KEYS else ""
        videos = f", videos {', '.join(keys[:_MAX_KEYS])}{suffix}" if keys else ""
        phrases.append(f"{loss} on rank {rank}{videos}")
    position = f"step {trainer.global_step + 1} in epoch {trainer.current_epoch}"
    return f"the loss is not finite at {position}: {'; '.join(phrases)}"
