"""NanGuard: ends the run, or skips the optimizer step, on all ranks when a loss is NaN or infinite.

Nothing is waited for. A loss that is not finite makes its gradients NaN, so that the all-reduce of the gradients tells
all ranks; a fused optimizer leaves the step out on the device; and the host reads one step later that it did.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.plugins.precision.amp import MixedPrecision
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.utils import get_total_norm

from datamodules.device_transfer import HostFlag
from lightning_modules.layers.parameter_sharding import whole_tensor
from lightning_modules.layers.torch_internals import leave_out_step

_MAX_KEYS = 8


class BadLossError(ValueError):
    """Raised when the loss is NaN or infinite; the message, the same on all ranks, says at which step and videos."""


class _Step(NamedTuple):
    """An optimizer step of which is not known yet whether it was bad: its flag, this rank's losses, its position."""

    is_bad: HostFlag
    losses: list[tuple[Tensor, list[str]]]
    position: str


class NanGuard(pl.Callback):
    """Callback that checks the losses and gradients of every optimizer step, and learns of a bad one a step later.

    No checkpoint is saved and no validation begins before the last step is known to be good. Optimizers that are not
    fused, and the first step of SGD with momentum, wait for the device instead.

    Args:
        max_bad_batches: in a run, optimizer steps that may be left out because the loss of one of their batches, on any
            rank, was NaN or infinite, or because the gradients were; one more ends the run. 0 ends it at the first.
            Those left out change neither weights nor the optimizer's averages nor running statistics; they are counted
            as `bad_batches`.

    Raises:
        ValueError: a number out of range.
    """

    def __init__(self, max_bad_batches: int = 0) -> None:
        if max_bad_batches < 0:
            raise ValueError(f"bad_loss.max_bad_batches={max_bad_batches}: must be at least 0")
        self._max = max_bad_batches
        self._count = 0
        self._trainer: pl.Trainer | None = None
        self._unchecked: _Step | None = None
        self._losses: list[tuple[Tensor, list[str]]] = []
        self._keys: list[str] = []
        self._buffers: list[tuple[Tensor, Tensor]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Takes the trainer, which `state_dict` needs."""
        self._trainer = trainer

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Saves the buffers (batch norm statistics), which the forward pass of a bad batch would spoil."""
        self._keys = list(getattr(batch, "keys", ()) if hasattr(batch, "clips") else ())
        if self._max and not self._losses:
            self._buffers = [(buffer, buffer.clone()) for buffer in pl_module.buffers()]

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        """Keeps the loss; where it is not finite, its gradients will be NaN, which an infinite one's need not be."""
        value = loss.detach()
        self._losses.append((value, self._keys))
        if loss.requires_grad:
            loss.register_hook(partial(_spoil_gradient, value))  # type: ignore[no-untyped-call]

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Checks the previous step, and makes this one depend on its gradients.

        Raises:
            BadLossError: a step was bad, and `max_bad_batches` steps were left out already.
        """
        losses, self._losses = self._losses, []
        self._check_last_step(trainer)
        gradients = [weight.grad for group in optimizer.param_groups for weight in group["params"]]
        gradients = [gradient for gradient in gradients if gradient is not None]
        if not losses or not gradients:
            return
        is_bad = whole_tensor(get_total_norm(gradients)).isfinite().logical_not()
        for buffer, before in self._buffers:
            buffer.copy_(torch.where(is_bad, before, buffer))
        position = f"step {trainer.global_step + 1} in epoch {trainer.current_epoch}"
        self._unchecked = _Step(HostFlag(is_bad), losses, position)
        is_scaled = isinstance(trainer.precision_plugin, MixedPrecision) and trainer.precision_plugin.scaler is not None
        if is_scaled or leave_out_step(optimizer, is_bad):  # a gradient scaler leaves out steps by itself
            return
        if self._check_last_step(trainer):
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = None  # optimizers skip parameters without gradients

    def _check_last_step(self, trainer: pl.Trainer) -> bool:
        """Whether the last step was bad; then a collective, which all ranks enter as they have the same gradients.

        Raises:
            BadLossError: it was, and `max_bad_batches` steps were left out already.
        """
        step, self._unchecked = self._unchecked, None
        if step is None or not step.is_bad.read():
            return False
        bad_losses = _gather_bad_losses(trainer, step.losses)
        if not bad_losses and isinstance(trainer.precision_plugin, MixedPrecision) and trainer.precision_plugin.scaler:
            return False  # gradients that were scaled too high, as is expected now and then
        self._count += 1
        description = _describe_bad_losses(bad_losses, step.position)
        if self._count > self._max:
            raise BadLossError(f"{description}; {self._advice()}")
        rank_zero_warn(f"{description}; the step is left out ({self._count} of at most {self._max})")
        return True

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
        """Checks the last step of an epoch; logs the number of skipped steps as `bad_batches`, if there are any."""
        if trainer.is_last_batch:
            self._check_last_step(trainer)
        if self._count:
            pl_module.log("bad_batches", float(self._count), on_step=True, on_epoch=False, rank_zero_only=True)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Checks the last step before a validation."""
        self._check_last_step(trainer)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Checks the last step of the run."""
        self._check_last_step(trainer)

    def state_dict(self) -> dict[str, Any]:
        """Checks the last step, before it is in a checkpoint; returns the number of steps skipped so far."""
        if self._trainer is not None:
            self._check_last_step(self._trainer)
        return {"count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the number of skipped steps."""
        self._count = state_dict["count"]


_BadLoss = tuple[int, float, list[str]]


def _spoil_gradient(loss: Tensor, gradient: Tensor) -> Tensor:
    """The gradient of a loss, NaN where the loss is not finite."""
    return torch.where(loss.isfinite(), gradient, math.nan)


def _gather_bad_losses(trainer: pl.Trainer, losses: list[tuple[Tensor, list[str]]]) -> list[_BadLoss]:
    """The losses of all ranks that are not finite, with the rank and the keys of the videos."""
    values = [(float(loss), keys) for loss, keys in losses]
    bad_losses = [(trainer.global_rank, loss, keys) for loss, keys in values if not math.isfinite(loss)]
    if trainer.world_size == 1:
        return bad_losses
    gathered: list[list[_BadLoss]] = [[] for _ in range(trainer.world_size)]
    dist.all_gather_object(gathered, bad_losses)
    return [bad_loss for rank_losses in gathered for bad_loss in rank_losses]


def _describe_bad_losses(bad_losses: list[_BadLoss], position: str) -> str:
    """Beginning of the message: step, epoch, and loss and videos by rank."""
    if not bad_losses:
        return f"the gradients are not finite at {position}, though the loss is"
    phrases = []
    for rank, loss, keys in bad_losses:
        suffix = f" and {len(keys) - _MAX_KEYS} more" if len(keys) > _MAX_KEYS else ""
        videos = f", videos {', '.join(keys[:_MAX_KEYS])}{suffix}" if keys else ""
        phrases.append(f"{loss} on rank {rank}{videos}")
    return f"the loss is not finite at {position}: {'; '.join(phrases)}"
