"""Optimization: optimizer, learning-rate factors of layers, and learning-rate schedule.

The schedule is a function of the completed fraction of the run, counted in samples if the data module provides it. So a
resumed run continues the schedule, also on another number of ranks or with other batch sizes or accumulation.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from torch import nn

from lightning_modules.layers.layer_selection import layer_name, longest_prefix, refuse_unknown_prefixes

OptimizerName = Literal["sgd", "adamw"]
Schedule = Literal["cosine", "constant", "step", "multi_step"]

_ROUNDING = 1e-9  # tolerance for fractions: 3 of 5 epochs must reach the milestone 0.6


def refuse_bad_options(options: Mapping[str, Any]) -> None:
    """Checks the optimization arguments of `VideoNetwork`, as far as possible without a network.

    Raises:
        ValueError: an argument is out of range.
    """
    if not 0 <= options["warmup_fraction"] < 1:
        raise ValueError(f"warmup_fraction={options['warmup_fraction']}: must be in [0, 1)")
    if not 0 < options["lr_gamma"] <= 1:
        raise ValueError(f"lr_gamma={options['lr_gamma']}: must be above 0 and at most 1")
    if not 0 < options["lr_step_fraction"] <= 1:
        raise ValueError(f"lr_step_fraction={options['lr_step_fraction']}: must be above 0 and at most 1")
    milestones = list(options["lr_milestones"])
    if milestones != sorted(milestones) or not all(0 < milestone < 1 for milestone in milestones):
        raise ValueError(f"lr_milestones={milestones}: must rise, each a share of the run between 0 and 1")
    if bool(milestones) != (options["lr_schedule"] == "multi_step"):
        raise ValueError(
            f"lr_milestones={milestones}, lr_schedule={options['lr_schedule']!r}: multi_step wants milestones, and "
            "nothing else takes them"
        )
    base = options["scale_learning_rate_from"]
    if base is not None and base < 1:
        raise ValueError(f"scale_learning_rate_from={base}: must be at least 1")
    for prefix, scale in (options["learning_rate_scale"] or {}).items():
        if scale <= 0:
            raise ValueError(f"learning_rate_scale: {prefix}={scale}: must be above 0; to leave it as it is, freeze it")


def make_optimizer(network: nn.Module, options: Mapping[str, Any]) -> torch.optim.Optimizer:
    """The optimizer of a network's trainable parameters; those of fewer than two dimensions have no weight decay.

    Args:
        network: the network to train.
        options: the optimizer arguments of `VideoNetwork`.

    Raises:
        ValueError: no parameter is trainable, or `learning_rate_scale` names a layer that does not exist.
    """
    rate: float = options["learning_rate"]
    scales: Mapping[str, float] = options["learning_rate_scale"] or {}
    refuse_unknown_prefixes("learning_rate_scale", scales, network)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    trained = [(layer_name(name), weight) for name, weight in network.named_parameters() if weight.requires_grad]
    for large in (True, False):
        decay = options["weight_decay"] if large else 0.0
        for name, parameter in trained:
            if (parameter.ndim >= 2) == large:
                prefix = longest_prefix(name, scales)
                scale = 1.0 if prefix is None else scales[prefix]
                group = groups.setdefault((scale, large), {"params": [], "lr": rate * scale, "weight_decay": decay})
                group["params"].append(parameter)
    if not groups:
        raise ValueError(f"freeze={options['freeze']}: nothing is left to train")
    if options["optimizer"] == "sgd":
        momentum = options["momentum"]
        return torch.optim.SGD(list(groups.values()), lr=rate, momentum=momentum, nesterov=momentum > 0)
    return torch.optim.AdamW(list(groups.values()), lr=rate)


def batch_scale(trainer: pl.Trainer, base: int | None) -> float:
    """The global batch size (all ranks, all accumulated batches) divided by `base`; 1 without a base.

    Raises:
        ValueError: the data module does not state its batch size.
    """
    if base is None:
        return 1.0
    data = getattr(trainer, "datamodule", None)
    size = getattr(data, "hparams", {}).get("batch_size") or getattr(trainer.train_dataloader, "batch_size", None)
    if not isinstance(size, int):
        raise ValueError(f"scale_learning_rate_from={base}: the data module does not say its batch_size")
    return size * trainer.world_size * trainer.accumulate_grad_batches / base


def record_batch_scale(optimizer: torch.optim.Optimizer, scale: float) -> None:
    """Records the batch scale in the optimizer's state, so that checkpoints save it beside the learning rate.

    If a checkpoint restored the learning rate of another batch size, the rate is rescaled, for the first step too. If
    it has no recorded scale, the rate is kept; the schedule sets it after that step.
    """
    for group in optimizer.param_groups:
        group["lr"] *= scale / group.get("batch_scale", scale)
        group["batch_scale"] = scale


def progress_fraction(trainer: pl.Trainer) -> float:
    """The completed fraction of a run, in [0, 1]; always 0 in a run without an end.

    If both `max_epochs` and `max_steps` limit the run, the nearer end counts. Within an epoch, samples are counted if
    the data module has a method `share_of_epoch` (completed batches to fraction), otherwise batches.
    """
    shares = [0.0]
    if trainer.max_epochs is not None and trainer.max_epochs > 0:
        batches: int = trainer.fit_loop.epoch_loop.batch_progress.current.processed  # type: ignore[attr-defined]
        counted = getattr(getattr(trainer, "datamodule", None), "share_of_epoch", None)
        if counted is not None and trainer.limit_train_batches == 1.0:
            of_epoch = counted(batches)
        else:
            of_epoch = batches / max(1, trainer.num_training_batches)
        shares.append((trainer.current_epoch + of_epoch) / trainer.max_epochs)
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    return min(1.0, max(shares))


def rate_factor(options: Mapping[str, Any], done: float, step: float) -> float:
    """The learning-rate factor of the schedule at a point of a run.

    Args:
        options: the schedule arguments of `VideoNetwork`.
        done: fraction of the run before the step that the factor is for, in [0, 1].
        step: fraction of the run that one step takes; in warm-up the factor is that of the step's end, so never 0.
    """
    warmup: float = options["warmup_fraction"]
    if done < warmup - _ROUNDING:
        return min(1.0, (done + step) / warmup)
    schedule: Schedule = options["lr_schedule"]
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (done - warmup) / (1 - warmup)))
    falls = 0
    if schedule == "step":
        falls = math.floor((done + _ROUNDING) / options["lr_step_fraction"])
    elif schedule == "multi_step":
        falls = sum(milestone <= done + _ROUNDING for milestone in options["lr_milestones"])
    return float(options["lr_gamma"] ** falls)
