"""`VideoNetwork`: base class of all networks, with named stages, optimizer and checkpoints."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Self

import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from datamodules.batch import STREAM_CHANNELS, ClipBatch, Stream
from lightning_modules.layers.compilation import compile_network
from lightning_modules.layers.execution_options import ExecutionOptions, recompute_activations
from lightning_modules.layers.input_channels import stream_of_channels
from lightning_modules.layers.layer_selection import freeze_layers, refuse_unknown_prefixes
from lightning_modules.layers.parameter_sharding import gathered_parameters, is_sharded
from lightning_modules.layers.precise_batch_norm import (
    PreciseBatchNorm,
    evaluation_mode,
    has_synchronized_norms,
    refuse_synchronized_norms,
)
from lightning_modules.tasks.input_normalization import InputNormalization
from lightning_modules.tasks.label_task import resolve_class_names
from lightning_modules.tasks.lightning_internals import records_batch, synchronizes_batch_norms
from lightning_modules.tasks.optimization import OptimizationOptions, OptimizerName, Schedule
from lightning_modules.tasks.optimization_hooks import OptimizationHooks
from lightning_modules.tasks.random_seed import seed_generators, seed_of
from lightning_modules.tasks.saved_network import CheckpointHooks, has_argument


class VideoNetwork(CheckpointHooks, OptimizationHooks, InputNormalization):
    """Base class of networks of named stages over clips, independent of the training objective.

    uint8 clips to the device ─▶ `normalize` ─▶ stages, each a named feature. A subclass sets `self.stages`, an
    `nn.Sequential` whose children's names are the endpoints, defines the training step, and takes plain arguments, so
    that `--help` lists them and checkpoints contain only plain data.

    Args:
        num_classes: number of classes, K; may be omitted if `class_names` is given or there are no classes.
        class_names: the K class names in label order; `python -m pipeline fit` takes them from the dataset.
        mean: mean of each channel, as values in [0, 1], subtracted from the input; default: the network's own, 0.5
            unless it says otherwise, and that of optical flow. Checkpoints hold the numbers.
        std: standard deviation of each channel, as values in [0, 1], that the input is divided by; default: as for
            `mean`.
        subtract_mean_flow: of optical flow, subtract from each frame its mean displacement, so that the camera's motion
            counts less (Simonyan and Zisserman 2014, section 3.1).
        optimizer: `sgd` (with Nesterov momentum) or `adamw`.
        learning_rate: the maximum learning rate of the schedule.
        scale_learning_rate_from: global batch size (all ranks, all accumulated batches) that `learning_rate` is meant
            for; for other sizes it is scaled linearly (Goyal et al. 2017, section 2.1).
        learning_rate_scale: learning-rate factors of layers by name prefix, such as `{"Logits": 10}`; the longest
            matching prefix counts.
        freeze: name prefixes of layers to freeze (no gradients, evaluation mode), such as `["Conv3d", "Mixed_3"]`.
        momentum: momentum of `sgd`.
        weight_decay: weight decay of weights of two or more dimensions; biases and batch norms have none.
        warmup_fraction: fraction of the run in which the learning rate rises linearly from 0.
        lr_schedule: schedule after the warm-up, updated every step, by the fraction of the run's samples seen: `cosine`
            to 0; `constant`; `step`, `lr_gamma` per `lr_step_fraction`; `multi_step`, `lr_gamma` per milestone.
        lr_milestones: milestones of `multi_step` as fractions of the run, warm-up included, such as `[0.6, 0.9]`.
        lr_step_fraction: period of `step` as a fraction of the run, warm-up included.
        lr_gamma: factor of the learning rate of `step` and `multi_step`.
        precise_bn_batches: recompute batch norm statistics, not weights, from this many latest batches, kept in memory,
            before validation or at the end of an epoch without one (Wu and Johnson 2021); 0 keeps moving averages.
        channels_last: store the filters of convolutions in channels-last memory format.
        space_to_depth: compute a first convolution of stride 2 on blocks of 2 x 2 x 2 pixels as channels: the same
            result and weights, meant for GPUs, whose matrix units pad 3 channels; slower on CPUs.
        compile: use torch.compile in training and its validation, for batches of the largest size; smaller ones run
            without it; checkpoints do not depend on it or on a compiler; not with synchronized batch norms.
        checkpoint_activations: save memory by recomputing the activations within stages in the backward pass; true for
            all stages but the last, or a list of name prefixes of stages.
        seed: key of dropout and mixing, together with epoch, batch and rank; `fit` takes it from `seed_everything`.
        weights: initial weights of training: a name listed by `python -m pipeline weights list`, or the path of a
            checkpoint; the classifier is loaded if number of classes and task are equal; an I3D also takes the weights
            of a 2D Inception, which are inflated; ignored when a run resumes or a trained checkpoint is loaded.

    Attributes:
        feature_layer: the default endpoint of feature export.
        class_names: class names in label order; empty if there are no classes.
        execution: memory layout, compilation and activation checkpointing.
        initial_weights: the argument `weights`.
        resumes: whether the run resumes and loads no initial weights; set by `fit`, as the trainer knows it too late.

    Raises:
        ValueError: an argument is out of range, or `class_names` and `num_classes` contradict.
    """

    feature_layer: str = ""
    resumes: bool = False
    stages: nn.Sequential

    def __init__(
        self,
        num_classes: int | None = None,
        class_names: list[str] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        subtract_mean_flow: bool = False,
        optimizer: OptimizerName = "sgd",
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        scale_learning_rate_from: int | None = None,
        learning_rate_scale: dict[str, float] | None = None,
        freeze: list[str] | None = None,
        warmup_fraction: float = 0.0,
        lr_schedule: Schedule = "cosine",
        lr_milestones: Sequence[float] = (),
        lr_step_fraction: float = 1 / 3,
        lr_gamma: float = 0.1,
        precise_bn_batches: int = 0,
        channels_last: bool = False,
        space_to_depth: bool = False,
        compile: bool = False,
        checkpoint_activations: bool | list[str] = False,
        seed: int = 0,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        if not has_argument(type(self), "task"):
            self.hparams.pop("task", None)  # `fit` records what it gives to networks with labels
        self.class_names = resolve_class_names(num_classes, class_names)
        self.num_classes = len(self.class_names)
        OptimizationOptions.from_hyperparameters(self.hparams)  # raises for an option out of range
        self.execution = ExecutionOptions(channels_last, space_to_depth, compile, checkpoint_activations)
        self.initial_weights = weights
        self._seed = seed
        self._precise_batch_norm = PreciseBatchNorm(precise_bn_batches)
        self._frozen: list[str] = []
        self._given_normalization = mean, std
        self.adopt_normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    @classmethod
    def clip_settings_of(cls, init_args: Mapping[str, Any]) -> dict[str, Any]:
        """Options of the data module for the clips that the network of these arguments was made for.

        Args:
            init_args: arguments of the class.

        Returns:
            Some of num_frames, frame_interval, fps, crop_size and resize; none for networks that take any clips.
        """
        return {}

    # From clips to features.

    @classmethod
    def stream_of(cls, init_args: Mapping[str, Any]) -> Stream:
        """What the clips of the network of these arguments are of."""
        return stream_of_channels(init_args.get("in_channels") or STREAM_CHANNELS["rgb"])

    @property
    def endpoints_available(self) -> tuple[str, ...]:
        """Names of the stages, in order."""
        return tuple(name for name, _ in self.stages.named_children())

    def named_features(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yields the name and output of every stage, in order; stages after the last one consumed are not computed.

        Args:
            x: normalized float (N, C, T, H, W).
        """
        for name, stage in self.stages.named_children():
            x = stage(x)
            yield name, x

    def endpoints(self, x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
        """The outputs of the named stages, first axis N.

        Args:
            x: normalized float (N, C, T, H, W).
            names: names of stages, from `endpoints_available`.

        Raises:
            ValueError: unknown stage; the message lists the known ones.
        """
        for name in names:
            if name not in self.endpoints_available:
                raise ValueError(f"layer {name!r}: {type(self).__name__} has {', '.join(self.endpoints_available)}")
        outputs: dict[str, Tensor] = {}
        for name, feature in self.named_features(x):
            if name in names:
                outputs[name] = feature
            if len(outputs) == len(set(names)):
                break
        return outputs

    @property
    def compiled_part(self) -> nn.Module:
        """The module that the option `compile` compiles, which a training step calls as a whole."""
        return self.stages

    # Training.

    def setup(self, stage: str) -> None:
        """Loads the initial weights, unless the run resumes; freezes layers and applies the execution options.

        Raises:
            ValueError: an option names an unknown layer, or requires a compiler that does not work, or synchronized
                batch norms on the CPU or of a compiled network, or is for flow and the clips are RGB.
        """
        self.refuse_mean_of_rgb()
        strategy = self.trainer.strategy
        if stage == TrainerFn.FITTING:
            if synchronizes_batch_norms(self.trainer):
                refuse_synchronized_norms(strategy.root_device, self.execution.compile)
            if self.initial_weights is not None and not self.resumes:
                self.load_initial_weights(self.initial_weights)
            self._frozen = list(self.optimization.freeze or ())
            refuse_unknown_prefixes("freeze", self._frozen, self)
            freeze_layers(self, self._frozen)
            if not all(parameter.requires_grad for parameter in self.parameters()):
                warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")  # intended
            recompute_activations(self, self.stages, self.execution.checkpoint_activations)
            if self.execution.compile:
                compile_network(self.compiled_part, strategy.root_device)
        self.execution.apply_layout(self)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; frozen layers stay in evaluation mode."""
        super().train(mode)
        freeze_layers(self, self._frozen)
        return self

    def on_train_batch_start(self, batch: ClipBatch, batch_idx: int) -> None:
        """Seeds dropout from (seed, epoch, batch, rank), so that a resumed run draws as an uninterrupted one would."""
        seed_generators(seed_of(self.seed_key(batch_idx)), self.device)

    def log_loss(self, loss: Tensor, num_clips: int) -> None:
        """Logs `train/loss` for the batches that loggers record, as `log` takes longer than launching a small network.

        Args:
            loss: the mean loss of the clips, a scalar.
            num_clips: their number.
        """
        if self._trainer is not None and records_batch(self._trainer):
            self.log("train/loss", loss, batch_size=num_clips)

    def seed_key(self, batch_idx: int) -> list[int]:
        """The seed key of a training step: seed, epoch, batch, rank."""
        return [self._seed, self.current_epoch, batch_idx, self.global_rank]

    def zero_loss(self, batch: ClipBatch, output: Callable[[Tensor], Tensor]) -> Tensor:
        """A zero loss for a rank whose videos all failed to decode, because the others wait for its gradients.

        With synchronized batch norms, the others also wait in each of these, so the network is run on one clip of the
        mean color, which has a small weight in that step's statistics and none in its gradients. Where parameters are
        in shards, the others wait in each stage, so it is run too, in evaluation mode, which leaves statistics alone.

        Args:
            batch: a batch without videos.
            output: the network as a training step runs it, for normalized float clips (N, C, T, H, W).
        """
        if not has_synchronized_norms(self) and not is_sharded(self):
            return torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0
        color = (255 * self.mean).round().to(batch.clips.dtype)
        clip = color.expand(1, *batch.clips.shape[1:]).contiguous()
        with nullcontext() if has_synchronized_norms(self) else evaluation_mode(self):
            return output(self.normalize(batch._replace(clips=clip))).sum() * 0

    def on_train_batch_end(self, outputs: Tensor | Mapping[str, Any] | None, batch: ClipBatch, batch_idx: int) -> None:
        """Keeps the batch for precise batch norm, if enabled."""
        self._precise_batch_norm.add_batch(batch, self)

    def on_validation_epoch_start(self) -> None:
        """Computes precise batch norm statistics; after the callbacks, so that averaged weights are in place."""
        if self.trainer.state.fn == TrainerFn.FITTING:
            self._precise_batch_norm.compute(self, self._forward)

    def on_train_epoch_end(self) -> None:
        """Computes precise batch norm statistics after an epoch that did not end with validation."""
        if self._precise_batch_norm.is_enabled:
            with gathered_parameters(self):
                self._precise_batch_norm.compute(self, self._forward)

    def _forward(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Runs all layers on a batch."""
        return self.endpoints(self.normalize(batch), self.endpoints_available[-1:])
