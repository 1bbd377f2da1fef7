"""`VideoClassifier`: how every network here learns, is judged, saved, loaded and asked for features."""

import importlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanMetric

from datamodules.batch import ClipBatch
from lightning_modules.metrics import classification_metrics
from lightning_modules.mixing import Mix, draw_mix

_TRUSTED_PACKAGES = ("lightning_modules",)


class VideoClassifier(pl.LightningModule):
    """A network of named stages over clips, and everything around it.

    uint8 clips to the device ─▶ `normalize` ─▶ stages, each a named feature ─▶ logits a clip ─▶ softmax ─▶ mean over a
    video's views ─▶ scores. A subclass sets `self.stages`, an `nn.Sequential` whose children's names are the endpoints
    and whose last child gives the logits, and takes plain arguments, so that `--help` lists them and a checkpoint holds
    nothing but plain data.

    Args:
        num_classes: K; may be left out where `class_names` says it.
        class_names: the K names in label order. `python -m pipeline fit` takes them from the dataset.
        mean: of a pixel, for R, G and B, of values scaled to [0, 1].
        std: of a pixel, likewise.
        label_smoothing: share of the target spread over all classes, in [0, 1).
        mixup_alpha: in training, blend clips in pairs, with shares from Beta(alpha, alpha) (MixUp); 0 for none.
        cutmix_alpha: in training, paste a patch of one clip into another, likewise (CutMix); 0 for none. With both,
            each batch takes one of them.
        mix_probability: share of the training batches that are mixed, if any are.
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

    Raises:
        ValueError: an argument out of range; neither classes nor their number given, or both and unlike.
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
        label_smoothing: float = 0.0,
        mixup_alpha: float = 0.0,
        cutmix_alpha: float = 0.0,
        mix_probability: float = 1.0,
        optimizer: Literal["sgd", "adamw"] = "sgd",
        learning_rate: float = 0.01,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        warmup_fraction: float = 0.0,
        lr_schedule: Literal["cosine", "constant"] = "cosine",
        seed: int = 0,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.class_names = _names_of_classes(num_classes, class_names)
        self.num_classes = len(self.class_names)
        for name, value in (("label_smoothing", label_smoothing), ("warmup_fraction", warmup_fraction)):
            if not 0 <= value < 1:
                raise ValueError(f"{name}={value}: must be in [0, 1)")
        for name, value in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
            if value < 0:
                raise ValueError(f"{name}={value}: must be at least 0")
        if not 0 <= mix_probability <= 1:
            raise ValueError(f"mix_probability={mix_probability}: must be from 0 to 1")
        self.label_smoothing = label_smoothing
        self.mixing = (mixup_alpha, cutmix_alpha, mix_probability)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)
        self.train_metrics = classification_metrics(self.num_classes, "train")
        self.val_metrics = classification_metrics(self.num_classes, "val")
        self.test_metrics = classification_metrics(self.num_classes, "test")
        self.val_loss = MeanMetric()

    # From clips to scores.

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

    def clip_logits(self, x: Tensor) -> Tensor:
        """Logits of clips: normalized float (N, C, T, H, W) to (N, K)."""
        logits: Tensor = self.stages(x)
        return logits

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

    def forward(self, batch: ClipBatch) -> Tensor:
        """Logits of the clips of a batch: (N, K)."""
        return self.clip_logits(self.normalize(batch))

    def video_scores(self, batch: ClipBatch) -> Tensor:
        """Probabilities of the videos of a batch, averaged over their views: float32 (B, K)."""
        if batch.num_videos == 0:
            return self.mean.new_zeros((0, self.num_classes))
        probabilities = self(batch).float().softmax(dim=1)
        views = torch.bincount(batch.video_index, minlength=batch.num_videos)
        sums = probabilities.new_zeros((batch.num_videos, self.num_classes))
        scores: Tensor = sums.index_add_(0, batch.video_index, probabilities) / views[:, None]
        return scores

    # Learning and being judged.

    def setup(self, stage: str) -> None:
        """Takes the weights that training is to start from; a run that resumes has its own."""
        if stage != TrainerFn.FITTING or self.hparams["weights"] is None or self.trainer.ckpt_path is not None:
            return
        from lightning_modules.pretrained import read_weights, start_from  # they know the networks

        told = read_weights(self.hparams["weights"])
        start_from(self, told, keep_head=told.init_args.get("num_classes") == self.num_classes)

    def on_train_batch_start(self, batch: ClipBatch, batch_idx: int) -> None:
        """Keys dropout by (seed, epoch, batch, rank), so that a resumed run draws what an undisturbed one would."""
        torch.manual_seed(_seed_of(self._draw_key(batch_idx)))

    def _draw_key(self, batch_idx: int) -> list[int]:
        return [int(self.hparams.get("seed", 0)), self.current_epoch, batch_idx, self.global_rank]

    def training_step(self, batch: ClipBatch, batch_idx: int) -> Tensor:
        """Mean cross entropy of the clips, each with its video's label, or of mixed clips with both labels' shares.

        The metrics of training hold a mixed clip against the label that has the greater share in it.
        """
        if batch.num_videos == 0:  # all its videos failed to decode; the other ranks still wait for our gradients
            return torch.stack([parameter.sum() for parameter in self.parameters()]).sum() * 0
        x, labels = self.normalize(batch), batch.labels[batch.video_index]
        targets = labels
        mix = self._mix_of(x, batch_idx)
        if mix is not None:
            x, targets = mix.clips(x), mix.targets(labels, self.num_classes)
            labels = mix.dominant(labels)
        logits = self.clip_logits(x)
        loss = F.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)
        self.train_metrics.update(logits.detach().float().softmax(dim=1), labels)
        self.log("train/loss", loss, prog_bar=True, batch_size=len(labels))
        self.log_dict(self.train_metrics, on_step=False, on_epoch=True, batch_size=len(labels))
        return loss

    def _mix_of(self, x: Tensor, batch_idx: int) -> Mix | None:
        mix = draw_mix(self._draw_key(batch_idx), len(x), (x.shape[3], x.shape[4]), *self.mixing)
        return None if mix is None else mix._replace(partners=mix.partners.to(x.device))

    def validation_step(self, batch: ClipBatch, batch_idx: int) -> None:
        """Updates the metrics of the validation split, a video once."""
        if batch.num_videos > 0:
            scores = self.video_scores(batch)
            self.val_metrics.update(scores, batch.labels)
            loss = F.nll_loss(scores.clamp_min(1e-12).log(), batch.labels)
            self.val_loss.update(loss, weight=batch.num_videos)
        self.log("val/loss", self.val_loss, batch_size=batch.num_videos)
        self.log_dict(self.val_metrics, prog_bar=True, batch_size=batch.num_videos)

    def test_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Any]:
        """Updates the metrics of the test split; returns the keys, labels and scores for callbacks to write."""
        scores = self.video_scores(batch)
        if batch.num_videos > 0:
            self.test_metrics.update(scores, batch.labels)
        self.log_dict(self.test_metrics, batch_size=batch.num_videos)
        return {"keys": batch.keys, "rows": batch.rows, "labels": batch.labels, "scores": scores}

    def predict_step(self, batch: ClipBatch, batch_idx: int) -> dict[str, Any]:
        """The keys and scores of a batch's videos: float32 (B, K)."""
        return {"keys": batch.keys, "rows": batch.rows, "scores": self.video_scores(batch)}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer and a learning rate that changes with every step."""
        hp = self.hparams
        decayed = [p for p in self.parameters() if p.requires_grad and p.ndim >= 2]
        others = [p for p in self.parameters() if p.requires_grad and p.ndim < 2]
        groups = [{"params": decayed, "weight_decay": hp["weight_decay"]}, {"params": others, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
        optimizer: torch.optim.Optimizer
        if hp["optimizer"] == "sgd":
            momentum = hp["momentum"]
            optimizer = torch.optim.SGD(groups, lr=hp["learning_rate"], momentum=momentum, nesterov=momentum > 0)
        else:
            optimizer = torch.optim.AdamW(groups, lr=hp["learning_rate"])
        total = int(min(self.trainer.estimated_stepping_batches, 2**62))
        warmup = int(hp["warmup_fraction"] * total)
        constant: bool = hp["lr_schedule"] == "constant"

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / warmup
            if constant:
                return 1.0
            return 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warmup) / max(1, total - warmup))))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the class and its arguments, as plain data: what `load` needs to give the same model back."""
        arguments = {name: value for name, value in self.hparams.items() if not name.startswith("_")}
        arguments |= {"class_names": self.class_names, "num_classes": self.num_classes}
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        checkpoint["classifier"] = {"class_path": path, "init_args": _plain(arguments)}

    @classmethod
    def load(cls, path: str | Path, allow: Sequence[str] = ()) -> Self:
        """Loads a checkpoint as the class that was trained, in evaluation mode on the CPU.

        Nothing is unpickled but plain data and tensors, and no class is imported but ours and those allowed.

        Args:
            path: of a checkpoint that `fit` wrote.
            allow: packages or modules that model classes may come from, besides `lightning_modules`.

        Raises:
            FileNotFoundError: no such file.
            ValueError: no checkpoint of a classifier, of a class that is not allowed or not `cls`, or weights that
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
        klass = _trained_class(weights.class_path, weights.path, allow)
        if not issubclass(klass, cls):
            klass = cls
        arguments, keep_head = arguments_for(weights, klass, num_classes)
        model = klass(**arguments | init_args)
        start_from(model, weights, keep_head)
        return model.eval()

    @classmethod
    def from_checkpoint(cls, checkpoint: dict[str, Any], path: str, allow: Sequence[str] = ()) -> Self:
        """Like `load`, from what `read_checkpoint` gave; `path` is for the messages."""
        klass = _trained_class(checkpoint["classifier"]["class_path"], path, allow)
        if not issubclass(klass, cls):
            raise ValueError(f"{path}: a checkpoint of {klass.__name__}, not of {cls.__name__}")
        model = klass(**checkpoint["classifier"]["init_args"])
        try:
            model.load_state_dict(checkpoint["state_dict"], strict=True)
        except RuntimeError as error:  # torch names every key
            raise ValueError(f"{path}: the weights do not fit {klass.__name__}: {error}") from error
        return model.eval()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint that `fit` wrote, trusting nothing in it: plain data and tensors only.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a checkpoint of a `VideoClassifier`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {str(path)!r}: no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds: of pickle, of zip, its own
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"checkpoint {str(path)!r} cannot be read, is it whole and a checkpoint? ({cause})") from error
    if not isinstance(checkpoint, dict) or "classifier" not in checkpoint or "state_dict" not in checkpoint:
        raise ValueError(f"checkpoint {str(path)!r} was not written by `python -m pipeline fit` of a VideoClassifier")
    return checkpoint


def _trained_class(class_path: str, path: str, allow: Sequence[str]) -> type[VideoClassifier]:
    module, _, name = class_path.rpartition(".")
    if not any(module == trusted or module.startswith(f"{trusted}.") for trusted in (*_TRUSTED_PACKAGES, *allow)):
        raise ValueError(f"{path}: trained as {class_path}; to import it, allow its module {module!r} by name")
    try:
        klass = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{path}: trained as {class_path}, which cannot be imported here: {error}") from error
    if not (isinstance(klass, type) and issubclass(klass, VideoClassifier)):
        raise ValueError(f"{path}: {class_path} is not a VideoClassifier")
    return klass


def _names_of_classes(num_classes: int | None, class_names: Sequence[str] | None) -> list[str]:
    if class_names is None:
        if num_classes is None or num_classes < 1:
            raise ValueError(f"num_classes={num_classes}: give a number of at least 1, or class_names")
        return [str(number) for number in range(num_classes)]
    if num_classes is not None and num_classes != len(class_names):
        raise ValueError(f"num_classes={num_classes}, but there are {len(class_names)} class_names")
    return list(class_names)


def _seed_of(key: Sequence[int]) -> int:
    """One seed from several integers; alike keys give alike seeds on every machine."""
    seed = 0
    for integer in key:
        seed = (seed * 6364136223846793005 + integer + 1442695040888963407) & (2**63 - 1)
    return seed


def _plain(value: Any) -> Any:
    """The value as lists, dicts and scalars, which load with `weights_only=True`."""
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
