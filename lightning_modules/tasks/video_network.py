"""`VideoNetwork`: what every network here has in common: its stages, its optimizer, its checkpoints."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from datamodules.batch import ClipBatch
from lightning_modules.layers.execution_options import compile_network, recompute_activations, use_channels_last
from lightning_modules.layers.layer_selection import freeze_layers, refuse_unknown_prefixes
from lightning_modules.layers.precise_batch_norm import PreciseStatistics, synchronizes
from lightning_modules.tasks.lightning_internals import synchronizes_batch_norms
from lightning_modules.tasks.optimization import (
    OptimizerName,
    Schedule,
    batch_scale,
    make_optimizer,
    progress_fraction,
    rate_factor,
    record_batch_scale,
    refuse_bad_options,
)
from lightning_modules.tasks.saved_network import CheckpointHooks
from lightning_modules.weights.pretrained import load_pretrained, read_weights


class VideoNetwork(CheckpointHooks):
    """A network of named stages over clips, and what does not depend on what it learns.

    uint8 clips to the device ─▶ `normalize` ─▶ stages, each a named feature. A subclass sets `self.stages`, an
    `nn.Sequential` whose children's names are the endpoints, says what a training step is, and takes plain arguments,
    so that `--help` lists them and a checkpoint holds nothing but plain data.

    Args:
        num_classes: K; may be left out where `class_names` says it, and where classes do not matter.
        class_names: the K names in label order. `python -m pipeline fit` takes them from the dataset.
        mean: of a pixel, for R, G and B, of values scaled to [0, 1].
        std: of a pixel, likewise.
        optimizer: `sgd` (with Nesterov momentum) or `adamw`.
        learning_rate: at its highest.
        scale_learning_rate_from: the number of videos a step that `learning_rate` is meant for; with another number,
            of all ranks and accumulated batches together, the rate is in proportion (Goyal et al. 2017, section 2.1).
        learning_rate_scale: factors of the rate for layers whose names begin so, such as `{"Logits": 10}`; the longest
            name that fits counts.
        freeze: layers whose names begin so are left as they are, such as `["Conv3d", "Mixed_3"]`: no gradients, no
            dropout, batch norms with their running statistics also in training.
        momentum: of `sgd`.
        weight_decay: of weights of two or more dimensions; biases and batch norms have none.
        warmup_fraction: share of the run in which the learning rate rises linearly from 0.
        lr_schedule: what follows, from step to step: `cosine` to 0; `constant`; `step`: times `lr_gamma` after every
            `lr_step_fraction` of the run; `multi_step`: times `lr_gamma` at each of `lr_milestones`. It goes by the
            share of the run's samples seen, so a run that resumes on other ranks or batches keeps to it.
        lr_milestones: of `multi_step`: shares of the run, warm-up included, such as `[0.6, 0.9]`.
        lr_step_fraction: of `step`: a share of the run, warm-up included.
        lr_gamma: of `step` and `multi_step`.
        precise_bn_batches: before validation, and at the end of an epoch without one, compute batch norms' statistics
            anew from this many latest training batches, which are kept in memory until then (Wu and Johnson 2021);
            0 keeps the moving averages. Weights are the same with and without.
        channels_last: lay out the filters of convolutions with channels last in memory.
        compile: compile the network with torch.compile, in training and its validation; checkpoints are the same with
            and without, and whoever loads them needs no compiler.
        checkpoint_activations: save memory: keep no activations within stages whose names begin so, or (true) within
            any, and compute them twice.
        seed: key of dropout and mixing, together with epoch, batch and rank. `fit` takes it from `seed_everything`.
        weights: what training starts from: a name that `python -m pipeline weights list` prints, or a checkpoint. Its
            classifier is taken over where the number of classes is the same. An I3D also starts from the weights of a
            2D Inception, which are inflated. Not looked at when a run resumes, or a trained checkpoint is loaded.

    Attributes:
        feature_layer: the endpoint that feature export takes where none is named.
        class_names: in label order; empty where there are no classes.
        resumes: whether the run to come goes on from a checkpoint, so that nothing else is loaded; set by `fit`, as the
            trainer tells it only later.

    Raises:
        ValueError: an argument out of range; classes and their number unlike.
    """

    feature_layer: str = ""
    resumes: bool = False
    stages: nn.Sequential
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_classes: int | None = None,
        class_names: list[str] | None = None,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
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
        compile: bool = False,
        checkpoint_activations: bool | list[str] = False,
        seed: int = 0,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.class_names = _names_of_classes(num_classes, class_names)
        self.num_classes = len(self.class_names)
        refuse_bad_options(self.hparams)
        if compile and checkpoint_activations:
            raise ValueError(
                "compile, checkpoint_activations: give one of them; torch.compile recomputes as it sees fit"
            )
        self._precise = PreciseStatistics(precise_bn_batches)
        self._frozen: list[str] = []
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    # From clips to features.

    @property
    def endpoints_available(self) -> tuple[str, ...]:
        """Names of the stages, in order."""
        return tuple(name for name, _ in self.stages.named_children())

    def normalize(self, batch: ClipBatch) -> Tensor:
        """The batch's clips as the network takes them: uint8 to normalized float (N, C, T, H, W)."""
        if batch.pixel_format != "rgb":
            raise ValueError(
                f"the clips are still {batch.pixel_format}, not rgb: give the trainer the data module instead of its "
                "loader, or call the data module's on_after_batch_transfer"
            )
        if batch.crops_to_cut > 1:
            raise ValueError(
                f"the clips still hold {batch.crops_to_cut} crops each: give the trainer the data module instead of "
                "its loader, or call the data module's on_after_batch_transfer"
            )
        # (x / 255 - mean) / std as one multiplication and one addition, over the axis that is last in memory.
        clips = batch.clips.to(self.mean.dtype).mul_(1 / (255 * self.std)).sub_(self.mean / self.std)
        return clips.permute(0, 4, 1, 2, 3)

    def named_features(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yields every stage's name and output, in order; nothing is computed after the last one asked for.

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
            names: of `endpoints_available`.

        Raises:
            ValueError: no such stage; the message lists those there are.
        """
        for name in names:
            if name not in self.endpoints_available:
                raise ValueError(f"layer {name!r}: {type(self).__name__} has {', '.join(self.endpoints_available)}")
        found: dict[str, Tensor] = {}
        for name, feature in self.named_features(x):
            if name in names:
                found[name] = feature
            if len(found) == len(set(names)):
                break
        return found

    @property
    def compiled_part(self) -> nn.Module:
        """What the option `compile` compiles: what a training step calls whole."""
        return self.stages

    # Learning.

    def setup(self, stage: str) -> None:
        """Takes the weights that training is to start from (a run that resumes has its own); sets how layers are run.

        Raises:
            ValueError: an option names a layer that is not there, or asks for a compiler that is not, or for
                synchronized batch norms on the CPU.
        """
        hp, strategy = self.hparams, self.trainer.strategy
        if stage == TrainerFn.FITTING:
            if synchronizes_batch_norms(self.trainer) and strategy.root_device.type == "cpu":
                raise ValueError("trainer.sync_batchnorm=true: torch has it for GPUs alone; leave it out on the CPU")
            if hp["weights"] is not None and not self.resumes:
                weights = read_weights(hp["weights"])
                keep_head = weights.init_args.get("num_classes") == self.num_classes
                self.trained_before = load_pretrained(self, weights, keep_head)
            self._frozen = list(hp["freeze"] or ())
            refuse_unknown_prefixes("freeze", self._frozen, self)
            freeze_layers(self, self._frozen)
            if self._frozen:
                warnings.filterwarnings("ignore", message=r"Found \d+ module\(s\) in eval mode")  # we mean it
            recompute_activations(self, self.stages, hp["checkpoint_activations"])
            if hp["compile"]:
                compile_network(self.compiled_part, strategy.root_device)
        if hp["channels_last"]:
            use_channels_last(self)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; that of layers that training has frozen stays evaluation."""
        super().train(mode)
        freeze_layers(self, self._frozen)
        return self

    def on_train_start(self) -> None:
        """A run that goes on with another batch has its own rate from its first step on."""
        for optimizer in self.trainer.optimizers:
            record_batch_scale(optimizer, batch_scale(self.trainer, self.hparams["scale_learning_rate_from"]))

    def on_train_batch_start(self, batch: ClipBatch, batch_idx: int) -> None:
        """Keys dropout by (seed, epoch, batch, rank), so that a resumed run draws what an undisturbed one would."""
        torch.manual_seed(seed_of(self.draw_key(batch_idx)))

    def draw_key(self, batch_idx: int) -> list[int]:
        """What decides all that is drawn in a training step: seed, epoch, batch, rank."""
        return [int(self.hparams.get("seed", 0)), self.current_epoch, batch_idx, self.global_rank]

    def learn_nothing(self, batch: ClipBatch, output: Callable[[Tensor], Tensor]) -> Tensor:
        """A loss without effect, for a rank whose videos all failed to decode: the others wait for its gradients.

        Where batch norms are synchronized, the others also wait in each of those, so the network is then shown one clip
        of the mean color, which has a small part in that step's statistics and none in its gradients.

        Args:
            batch: without videos.
            output: of the network, as a training step runs it, for normalized float clips (N, C, T, H, W).
        """
        if not synchronizes(self):
            return torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0
        color = (255 * self.mean).round().to(batch.clips.dtype)
        clip = color.expand(1, *batch.clips.shape[1:]).contiguous()
        return output(self.normalize(batch._replace(clips=clip))).sum() * 0

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and a learning rate that changes with every step.

        Raises:
            ValueError: a schedule in a run without an end; nothing to train; layers that are not there.
        """
        hp, trainer = self.hparams, self.trainer
        total = trainer.estimated_stepping_batches
        if math.isinf(total) and (hp["lr_schedule"] != "constant" or hp["warmup_fraction"] > 0):
            raise ValueError(
                f"lr_schedule={hp['lr_schedule']!r}, warmup_fraction={hp['warmup_fraction']}: the run has no end that "
                "they could go by; set trainer.max_epochs or trainer.max_steps"
            )
        optimizer = make_optimizer(self, hp)
        scale = batch_scale(trainer, hp["scale_learning_rate_from"])  # of this batch; a checkpoint may bring another's
        record_batch_scale(optimizer, scale)

        def factor(_: int) -> float:
            return scale * rate_factor(hp, progress_fraction(trainer), 1 / max(1, total))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_batch_end(self, outputs: Tensor | Mapping[str, Any] | None, batch: ClipBatch, batch_idx: int) -> None:
        """Keeps the batch, where statistics are to be computed from it."""
        self._precise.keep(batch, self)

    def on_validation_epoch_start(self) -> None:
        """Makes batch norms' statistics precise. Callbacks come before: averaged weights are in their place by now."""
        if self.trainer.state.fn == TrainerFn.FITTING:
            self._precise.compute(self, self._forward)

    def on_train_epoch_end(self) -> None:
        """Makes batch norms' statistics precise after an epoch that did not end with validation."""
        self._precise.compute(self, self._forward)

    def _forward(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Runs all layers on a batch."""
        return self.endpoints(self.normalize(batch), self.endpoints_available[-1:])


def _names_of_classes(num_classes: int | None, class_names: Sequence[str] | None) -> list[str]:
    if class_names is None:
        return [str(number) for number in range(num_classes or 0)]
    if num_classes is not None and num_classes != len(class_names):
        raise ValueError(f"num_classes={num_classes}, but there are {len(class_names)} class_names")
    return list(class_names)


def seed_of(key: Sequence[int]) -> int:
    """One seed from several integers; alike keys give alike seeds on every machine."""
    seed = 0
    for integer in key:
        seed = (seed * 6364136223846793005 + integer + 1442695040888963407) & (2**63 - 1)
    return seed
