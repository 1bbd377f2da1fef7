"""`VideoNetwork`: what every network here has in common: its stages, its optimizer, its checkpoints."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from datamodules.batch import ClipBatch
from lightning_modules.checkpoints import plain, read_checkpoint, trained_class
from lightning_modules.optimization import OptimizerName, Schedule, make_optimizer, rate_by_step


class VideoNetwork(pl.LightningModule):
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
        momentum: of `sgd`.
        weight_decay: of weights of two or more dimensions; biases and batch norms have none.
        warmup_fraction: share of all steps in which the learning rate rises from 0.
        lr_schedule: what follows: `cosine` to 0, or `constant`.
        seed: key of dropout and mixing, together with epoch, batch and rank. `fit` takes it from `seed_everything`.
        weights: what training starts from: a name that `python -m pipeline weights list` prints, or a checkpoint. Its
            classifier is taken over where the number of classes is the same. An I3D also starts from the weights of a
            2D Inception, which are inflated. Not looked at when a run resumes, or a trained checkpoint is loaded.

    Attributes:
        feature_layer: the endpoint that feature export takes where none is named.
        class_names: in label order; empty where there are no classes.

    Raises:
        ValueError: an argument out of range; classes and their number unlike.
    """

    feature_layer: str = ""
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
        warmup_fraction: float = 0.0,
        lr_schedule: Schedule = "cosine",
        seed: int = 0,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.class_names = _names_of_classes(num_classes, class_names)
        self.num_classes = len(self.class_names)
        if not 0 <= warmup_fraction < 1:
            raise ValueError(f"warmup_fraction={warmup_fraction}: must be in [0, 1)")
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
            raise ValueError(f"pixel_format={batch.pixel_format!r}: only 'rgb' is known")
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

    # Learning.

    def setup(self, stage: str) -> None:
        """Takes the weights that training is to start from; a run that resumes has its own."""
        if stage != TrainerFn.FITTING or self.hparams["weights"] is None or self.trainer.ckpt_path is not None:
            return
        from lightning_modules.pretrained import read_weights, start_from  # they know the networks

        told = read_weights(self.hparams["weights"])
        start_from(self, told, keep_head=told.init_args.get("num_classes") == self.num_classes)

    def on_train_batch_start(self, batch: ClipBatch, batch_idx: int) -> None:
        """Keys dropout by (seed, epoch, batch, rank), so that a resumed run draws what an undisturbed one would."""
        torch.manual_seed(seed_of(self.draw_key(batch_idx)))

    def draw_key(self, batch_idx: int) -> list[int]:
        """What decides all that is drawn in a training step: seed, epoch, batch, rank."""
        return [int(self.hparams.get("seed", 0)), self.current_epoch, batch_idx, self.global_rank]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and a learning rate that changes with every step."""
        optimizer = make_optimizer(self, self.hparams)
        total = int(min(self.trainer.estimated_stepping_batches, 2**62))
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate_by_step(self.hparams, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the class and its arguments, as plain data: what `load` needs to give the same model back."""
        arguments = {name: value for name, value in self.hparams.items() if not name.startswith("_")}
        arguments |= {"class_names": self.class_names, "num_classes": self.num_classes}
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        checkpoint["classifier"] = {"class_path": path, "init_args": plain(arguments)}

    @classmethod
    def load(cls, path: str | Path, allow: Sequence[str] = ()) -> Self:
        """Loads a checkpoint as the class that was trained, in evaluation mode on the CPU.

        Nothing is unpickled but plain data and tensors, and no class is imported but ours and those allowed.

        Args:
            path: of a checkpoint that `fit` wrote.
            allow: packages or modules that model classes may come from, besides `lightning_modules`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no checkpoint of a network of ours, of a class that is not allowed or not `cls`, or weights that
                do not match, every one of them named.
        """
        return cls.from_checkpoint(read_checkpoint(path), str(path), allow)

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path, num_classes: int | None = None, allow: Sequence[str] = (), **init_args: Any
    ) -> Self:
        """A network with the weights of a published checkpoint, or of a file: of ours or in a known naming.

        I3D takes the weights of a 2D Inception too, and inflates them.

        Args:
            name_or_path: a name that `python -m pipeline weights list` prints, or a file.
            num_classes: another number than the checkpoint's gives a new classifier on top; None keeps the one it has.
            allow: packages or modules that model classes may come from, besides `lightning_modules`.
            **init_args: of the class, in place of what the checkpoint says.

        Raises:
            FileNotFoundError: no such file.
            OSError: a published file cannot be got.
            ValueError: weights of another network, or keys that do not match, every one of them named.
        """
        from lightning_modules.pretrained import arguments_for, read_weights, start_from  # they know the networks

        weights = read_weights(name_or_path)
        klass: type[Any] = trained_class(weights.class_path, weights.path, allow, VideoNetwork)
        if not issubclass(klass, cls):
            klass = cls
        arguments, keep_head = arguments_for(weights, klass, num_classes)
        model = klass(**arguments | init_args)
        start_from(model, weights, keep_head)
        trained: Self = model.eval()
        return trained

    @classmethod
    def from_checkpoint(cls, checkpoint: dict[str, Any], path: str, allow: Sequence[str] = ()) -> Self:
        """Like `load`, from what `read_checkpoint` gave; `path` is for the messages."""
        klass: type[Any] = trained_class(checkpoint["classifier"]["class_path"], path, allow, VideoNetwork)
        if not issubclass(klass, cls):
            raise ValueError(f"{path}: a checkpoint of {klass.__name__}, not of {cls.__name__}")
        model = klass(**checkpoint["classifier"]["init_args"])
        try:
            model.load_state_dict(checkpoint["state_dict"], strict=True)
        except RuntimeError as error:  # torch names every key
            raise ValueError(f"{path}: the weights do not fit {klass.__name__}: {error}") from error
        trained: Self = model.eval()
        return trained


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
