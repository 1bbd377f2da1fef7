"""Optimization: optimizer, learning-rate factors of layers, and learning-rate schedule.

The schedule is a function of the completed fraction of the run, counted in samples if the data module provides it. So a
resumed run continues the schedule, also on another number of ranks or with other batch sizes or accumulation.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision, Precision
from pytorch_lightning.utilities.enums import GradClipAlgorithmType
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn

from lightning_modules.layers.layer_selection import layer_name, longest_prefix, refuse_unknown_prefixes
from lightning_modules.layers.parameter_sharding import is_sharded

OptimizerName = Literal["sgd", "adamw"]
Schedule = Literal["cosine", "constant", "step", "multi_step"]

# Embeddings that have no weight decay, as in the training of ViT, BEiT, VideoMAE and TimeSformer.
_UNDECAYED = ("cls_token", "position_embeddings", "time_embeddings")
_ROUNDING_TOLERANCE = 1e-9  # tolerance for fractions: 3 of 5 epochs must reach the milestone 0.6


@dataclass(frozen=True, kw_only=True)
class OptimizationOptions:
    """The optimization arguments of `VideoNetwork`, where each is documented; checked as far as possible without it.

    Raises:
        ValueError: an argument is out of range.
    """

    optimizer: OptimizerName = "sgd"
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    scale_learning_rate_from: int | None = None
    learning_rate_scale: Mapping[str, float] | None = None
    freeze: Sequence[str] | None = None
    warmup_fraction: float = 0.0
    lr_schedule: Schedule = "cosine"
    lr_milestones: Sequence[float] = ()
    lr_step_fraction: float = 1 / 3
    lr_gamma: float = 0.1

    @classmethod
    def from_hyperparameters(cls, hyperparameters: Mapping[str, Any]) -> Self:
        """The options among the hyperparameters of a network."""
        return cls(**{option.name: hyperparameters[option.name] for option in fields(cls)})

    def __post_init__(self) -> None:
        if not 0 <= self.warmup_fraction < 1:
            raise ValueError(f"warmup_fraction={self.warmup_fraction}: must be in [0, 1)")
        if not 0 < self.lr_gamma <= 1:
            raise ValueError(f"lr_gamma={self.lr_gamma}: must be above 0 and at most 1")
        if not 0 < self.lr_step_fraction <= 1:
            raise ValueError(f"lr_step_fraction={self.lr_step_fraction}: must be above 0 and at most 1")
        milestones = list(self.lr_milestones)
        if milestones != sorted(milestones) or not all(0 < milestone < 1 for milestone in milestones):
            raise ValueError(f"lr_milestones={milestones}: must rise, each a share of the run between 0 and 1")
        if bool(milestones) != (self.lr_schedule == "multi_step"):
            raise ValueError(
                f"lr_milestones={milestones}, lr_schedule={self.lr_schedule!r}: multi_step wants milestones, and "
                "nothing else takes them"
            )
        base = self.scale_learning_rate_from
        if base is not None and base < 1:
            raise ValueError(f"scale_learning_rate_from={base}: must be at least 1")
        for prefix, scale in (self.learning_rate_scale or {}).items():
            if scale <= 0:
                raise ValueError(
                    f"learning_rate_scale: {prefix}={scale}: must be above 0; to leave it as it is, freeze it"
                )


def make_optimizer(
    network: nn.Module, options: OptimizationOptions, fused: bool | None = None
) -> torch.optim.Optimizer:
    """The optimizer of a network's trainable parameters; those of fewer than two dimensions have no weight decay.

    Nor have class tokens and embeddings of positions and times.

    Args:
        network: the network to train.
        options: optimizer, learning rates and weight decay.
        fused: whether it is one kernel, which can leave a step out on the device; None leaves it to torch.

    Raises:
        ValueError: no parameter is trainable, or `learning_rate_scale` names a layer that does not exist.
    """
    rate, scales = options.learning_rate, options.learning_rate_scale or {}
    refuse_unknown_prefixes("learning_rate_scale", scales, network)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    trained = [(layer_name(name), weight) for name, weight in network.named_parameters() if weight.requires_grad]
    for large in (True, False):
        decay = options.weight_decay if large else 0.0
        for name, parameter in trained:
            if (parameter.ndim >= 2 and not name.endswith(_UNDECAYED)) == large:
                prefix = longest_prefix(name, scales)
                scale = 1.0 if prefix is None else scales[prefix]
                group = groups.setdefault((scale, large), {"params": [], "lr": rate * scale, "weight_decay": decay})
                group["params"].append(parameter)
    if not groups:
        raise ValueError(f"freeze={options.freeze}: nothing is left to train")
    if options.optimizer == "sgd":
        momentum = options.momentum
        return torch.optim.SGD(list(groups.values()), lr=rate, momentum=momentum, nesterov=momentum > 0, fused=fused)
    return torch.optim.AdamW(list(groups.values()), lr=rate, fused=fused)


def clip_gradients(
    trainer: pl.Trainer, optimizer: torch.optim.Optimizer, value: float | None, algorithm: str | None
) -> None:
    """Clips gradients as Lightning does, and also those of a fused optimizer in bf16, which Lightning refuses.

    A fused optimizer unscales gradients itself, and they would have to be unscaled before; in bf16 they are not scaled.

    Args:
        trainer: the Trainer of the run.
        optimizer: the optimizer.
        value: maximum norm or absolute value; None or 0 does not clip.
        algorithm: `norm`, the default, or `value`.
    """
    plugin = trainer.precision_plugin
    kind = GradClipAlgorithmType(algorithm or "norm")
    if isinstance(plugin, MixedPrecision) and not _scales_gradients(plugin):
        Precision.clip_gradients(plugin, optimizer, value or 0.0, kind)
    else:
        plugin.clip_gradients(optimizer, value or 0.0, kind)


def _scales_gradients(plugin: Precision) -> bool:
    """Whether gradients are scaled, as in 16-mixed on GPUs."""
    return isinstance(plugin, MixedPrecision) and plugin.scaler is not None


def decayed_scales(decays: Mapping[str, float], scales: Mapping[str, float]) -> dict[str, float]:
    """Learning-rate factors of stages and of layers within them, multiplied with the decay of each stage.

    Args:
        decays: factor of each stage by its name.
        scales: factors by name prefix, of which the longest counts, as in `learning_rate_scale`.

    >>> decayed_scales({"layer_1": 0.25, "layer_2": 0.5}, {"layer": 2.0, "layer_2.norm": 4.0})
    {'layer': 2.0, 'layer_2.norm': 2.0, 'layer_1': 0.5, 'layer_2': 1.0}
    """
    scaled = dict(scales)
    for stage, decay in decays.items():
        prefix = longest_prefix(stage, scales)
        scaled |= {inner: scale * decay for inner, scale in scales.items() if inner.startswith(f"{stage}.")}
        scaled[stage] = decay * (1.0 if prefix is None else scales[prefix])
    return scaled


def make_optimizer_and_schedule(
    network: nn.Module, options: OptimizationOptions, trainer: pl.Trainer
) -> OptimizerLRScheduler:
    """The optimizer of a network, and a learning-rate schedule that is updated every step.

    Args:
        network: the network to train.
        options: optimizer, learning rates and schedule.
        trainer: the Trainer of the run, whose length and global batch size count.

    Raises:
        ValueError: a schedule in a run without an end, no trainable parameters, or unknown layers.
    """
    total = trainer.estimated_stepping_batches
    if math.isinf(total) and (options.lr_schedule != "constant" or options.warmup_fraction > 0):
        raise ValueError(
            f"lr_schedule={options.lr_schedule!r}, warmup_fraction={options.warmup_fraction}: the run has no end "
            "that they could go by; set trainer.max_epochs or trainer.max_steps"
        )
    clips_scaled = _scales_gradients(trainer.precision_plugin) and bool(trainer.gradient_clip_val)
    is_supported = trainer.strategy.root_device.type in ("cpu", "cuda")
    lacks_kernel = is_sharded(network) and options.optimizer == "sgd"  # torch 2.13 has none for shards
    optimizer = make_optimizer(network, options, fused=is_supported and not clips_scaled and not lacks_kernel)
    scale = batch_scale(trainer, options.scale_learning_rate_from)  # a checkpoint may have another's
    record_batch_scale(optimizer, scale)

    def factor(_: int) -> float:
        return scale * rate_factor(options, progress_fraction(trainer), 1 / max(1, total))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


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
        share_of_epoch = getattr(getattr(trainer, "datamodule", None), "share_of_epoch", None)
        if share_of_epoch is not None and trainer.limit_train_batches == 1.0:
            epoch_fraction = share_of_epoch(batches)
        else:
            epoch_fraction = batches / max(1, trainer.num_training_batches)
        shares.append((trainer.current_epoch + epoch_fraction) / trainer.max_epochs)
    if trainer.max_steps > 0:
        shares.append(trainer.global_step / trainer.max_steps)
    return min(1.0, max(shares))


def rate_factor(options: OptimizationOptions, progress: float, step_fraction: float) -> float:
    """The learning-rate factor of the schedule at a point of a run.

    Args:
        options: the schedule.
        progress: fraction of the run before the step that the factor is for, in [0, 1].
        step_fraction: fraction of the run that one step takes; in warm-up the factor is that of the step's end, so
            never 0.
    """
    warmup = options.warmup_fraction
    if progress < warmup - _ROUNDING_TOLERANCE:
        return min(1.0, (progress + step_fraction) / warmup)
    if options.lr_schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))
    num_decays = 0
    if options.lr_schedule == "step":
        num_decays = math.floor((progress + _ROUNDING_TOLERANCE) / options.lr_step_fraction)
    elif options.lr_schedule == "multi_step":
        num_decays = sum(milestone <= progress + _ROUNDING_TOLERANCE for milestone in options.lr_milestones)
    return float(options.lr_gamma**num_decays)
